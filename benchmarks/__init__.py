"""How fast the instruments themselves are: `make bench-self`. No part of the tests: a busy machine is no defect."""
