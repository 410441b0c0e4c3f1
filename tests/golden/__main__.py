"""`python -m tests.golden`: write the newest golden of each kind again, after a field with a default was added to it.

A field that was renamed or removed is refused, as every reader of older files would: that is a new version.
"""

from tests.golden import file_of, kinds, versions

for kind in kinds():
    file = file_of(kind, versions(kind)[-1])
    file.write_bytes(kind.read(file).to_json())
