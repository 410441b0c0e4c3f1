/* A libnvidia-ml.so.1 for tests: two GPUs whose state a file describes, read anew at each call, so that the real pynvml binding
 * is exercised without a driver. The file ($NVML_STUB): "key value" lines; a key is metric.index, a value a number, or
 * -N for the error code N. init -9 makes nvmlInit fail. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef struct Device *D;
enum { OK = 0, NOT_SUPPORTED = 3, INVALID = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

static int known(const char *metric, long index, long long *value) {
  char key[64], name[64];
  long long found;
  const char *path = getenv("NVML_STUB");
  FILE *f = path ? fopen(path, "r") : NULL;
  int there = 0;
  if (!f) return 0;
  snprintf(key, sizeof key, "%s.%ld", metric, index);
  while (fscanf(f, "%63s %lld", name, &found) == 2)
    if (!strcmp(name, key)) *value = found, there = 1;
  fclose(f);
  return there;
}
static R get(const char *metric, D d, long long *value) {
  if (!known(metric, (long)d - 1, value)) return NOT_SUPPORTED;
  return *value < 0 ? (R)-*value : OK;
}
R nvmlInitWithFlags(unsigned flags) {
  long long v;
  (void)flags;
  return known("init", 0, &v) && v < 0 ? (R)-v : OK;
}
R nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
R nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(R code) { return code == 15 ? "GPU is lost" : code == 3 ? "Not Supported" : "Stub error"; }
R nvmlDeviceGetCount_v2(unsigned *n) {
  long long v;
  *n = known("count", 0, &v) ? (unsigned)v : 0;
  return OK;
}
R nvmlDeviceGetHandleByIndex_v2(unsigned k, D *d) {
  long long v;
  if (known("handle", k, &v) && v < 0) return (R)-v;
  *d = (D)(long)(k + 1);
  return OK;
}
R nvmlDeviceGetHandleByUUID(const char *uuid, D *d) {
  long k;
  long long n;
  if (sscanf(uuid, "GPU-%ld", &k) != 1 || !known("count", 0, &n) || k >= n) return NOT_FOUND;
  return nvmlDeviceGetHandleByIndex_v2((unsigned)k, d);
}
R nvmlDeviceGetUUID(D d, char *to, unsigned size) {
  snprintf(to, size, "GPU-%ld", (long)d - 1);
  return OK;
}
R nvmlDeviceGetName(D d, char *to, unsigned size) {
  long long v;
  if (known("name", (long)d - 1, &v) && v < 0) return (R)-v;
  snprintf(to, size, "NVIDIA H100 80GB HBM3");
  return OK;
}
/* Who computes: pid0.K, pid1.K, ... with what they hold in held0.K, ...; held -1 is a size that the driver does not tell. */
typedef struct { unsigned pid; unsigned long long held; unsigned instance, part; } Process;
R nvmlDeviceGetComputeRunningProcesses_v3(D d, unsigned *count, Process *to) {
  unsigned n, room = *count;
  long long pid, held, v;
  char key[32];
  if (known("processes", (long)d - 1, &v) && v < 0) return (R)-v;
  for (n = 0;; n++) {
    snprintf(key, sizeof key, "pid%u", n);
    if (!known(key, (long)d - 1, &pid)) break;
    snprintf(key, sizeof key, "held%u", n);
    if (!known(key, (long)d - 1, &held)) held = -1;
    if (to && n < room) to[n] = (Process){(unsigned)pid, (unsigned long long)held, ~0u, ~0u};
  }
  *count = n;
  return n > (to ? room : 0) ? INSUFFICIENT_SIZE : OK;
}
#define GET(type, function, metric)                                                                                             \
  R function(D d, type *to) {                                                                                                   \
    long long v;                                                                                                                \
    R r = get(metric, d, &v);                                                                                                   \
    if (r == OK) *to = (type)v;                                                                                                 \
    return r;                                                                                                                   \
  }
GET(unsigned, nvmlDeviceGetPowerUsage, "power")
GET(unsigned long long, nvmlDeviceGetTotalEnergyConsumption, "energy")
GET(unsigned long long, nvmlDeviceGetCurrentClocksThrottleReasons, "throttle")
GET(unsigned long long, nvmlDeviceGetCurrentClocksEventReasons, "throttle")
/* An Xid of device k stands in the state as "xid.k code" and is told once a process and code. */
static long long told[2];
static int watched[2];
R nvmlEventSetCreate(void **set) {
  *set = &told;
  return OK;
}
R nvmlDeviceRegisterEvents(D d, unsigned long long types, void *set) {
  (void)types, (void)set;
  watched[(long)d - 1] = 1;
  return OK;
}
typedef struct { D device; unsigned long long type, data; unsigned gpu, compute; } Event;
R nvmlEventSetWait_v2(void *set, Event *to, unsigned ms) {
  (void)set, (void)ms;
  for (long k = 0; k < 2; k++) {
    long long v;
    if (!watched[k] || !known("xid", k, &v) || v == told[k]) continue;
    told[k] = v;
    to->device = (D)(k + 1), to->type = 8, to->data = (unsigned long long)v;
    return OK;
  }
  return 10; /* time-out */
}
R nvmlDeviceGetUtilizationRates(D d, unsigned *to) {
  long long v;
  R r = get("utilization", d, &v);
  if (r == OK) to[0] = (unsigned)v, to[1] = 0;
  return r;
}
R nvmlDeviceGetMemoryInfo(D d, unsigned long long *to) {
  long long v;
  long long kept = 0;
  R r = get("memory", d, &v);
  if (known("reserved", (long)d - 1, &kept) && kept > 0) v += kept; /* as the first version counts */
  if (r == OK) to[0] = 80ull << 30, to[1] = to[0] - (unsigned long long)v, to[2] = (unsigned long long)v;
  return r;
}
/* The second version counts what the driver keeps (reserved.K) apart; reserved -13 is a driver without it. */
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
R nvmlDeviceGetMemoryInfo_v2(D d, Memory *to) {
  long long v, kept = 0;
  R r = get("memory", d, &v);
  if (known("reserved", (long)d - 1, &kept) && kept < 0) return (R)-kept;
  if (r == OK) {
    to->total = 80ull << 30, to->reserved = (unsigned long long)kept, to->used = (unsigned long long)v;
    to->free = to->total - to->reserved - to->used;
  }
  return r;
}
R nvmlDeviceGetTemperature(D d, int sensor, unsigned *to) {
  long long v;
  R r = get("temperature", d, &v);
  (void)sensor;
  if (r == OK) *to = (unsigned)v;
  return r;
}
typedef struct { unsigned version, sensor; int temperature; } Temperature;
R nvmlDeviceGetTemperatureV(D d, Temperature *to) {
  long long v;
  R r = get("temperature", d, &v);
  if (r == OK) to->temperature = (int)v;
  return r;
}
R nvmlDeviceGetClockInfo(D d, int type, unsigned *to) {
  long long v;
  R r = get(type == 1 ? "sm_clock" : "memory_clock", d, &v);
  if (r == OK) *to = (unsigned)v;
  return r;
}
R nvmlDeviceGetPcieThroughput(D d, int counter, unsigned *to) {
  long long v;
  R r = get(counter ? "pcie_rx" : "pcie_tx", d, &v);
  if (r == OK) *to = (unsigned)v;
  return r;
}
R nvmlDeviceGetTotalEccErrors(D d, int kind, int counter, unsigned long long *to) {
  long long v;
  R r = get(kind ? "ecc_uncorrected" : "ecc_corrected", d, &v);
  (void)counter;
  if (r == OK) *to = (unsigned long long)v;
  return r;
}
