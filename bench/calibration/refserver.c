/* A deterministic OpenAI-compatible streaming server: the known truth that the load generator is calibrated against.
 *
 * One thread, epoll, no dependency. Token k of a request is due at start + ttft + k * itl on CLOCK_MONOTONIC; start is when its last
 * body byte was read, or with --slots when it got a slot. Deadlines are absolute: a late token never moves the next one. Faults are
 * injected into every N-th request. On SIGTERM or SIGINT the truth is written: what was really sent, and when.
 *
 *   refserver [--port P] [--host A] [--ttft-us N] [--itl-us N] [--jitter-us N] [--slots N] [--model NAME] [--truth FILE] [--fault KIND:EVERY]
 *   --jitter-us adds a fixed pseudo-random 0..N to the first token of each request, so that closed loops leave step.
 *   KIND: reset truncate malformed inband http500 http429 http503 stall trickle
 *
 * --port 0 takes a free port; the first line on standard output is the port. FILE gets, for each request, a line of text
 * "id status tokens received_ns first_ns last_ns" followed by the send times of its tokens (ns after received_ns).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NONE, RESET, TRUNCATE, MALFORMED, INBAND, HTTP500, HTTP429, HTTP503, STALL, TRICKLE, KINDS };
static const char *KIND[KINDS] = {"none", "reset", "truncate", "malformed", "inband", "http500", "http429", "http503", "stall", "trickle"};

typedef struct Client {
  int fd, fault;
  char *in, *out; /* unread input; output that the socket did not take */
  size_t in_len, in_cap, out_len, out_cap;
  bool busy, running, waiting, chat, stream, usage, each_usage, close_after, dead, wants_out;
  uint32_t wanted, sent, prompt_tokens;
  uint64_t received, first, last, due;
  uint64_t trickle_at;
  char id[64], head[320];
  size_t head_len;
  uint32_t *times; /* ns after received, in units of 100 ns */
  int place;       /* in the heap; -1 outside */
  struct Client *next, *before;
} Client;

typedef struct {
  char id[64];
  int status;
  uint32_t tokens;
  uint64_t received, first, last;
  uint32_t *times;
} Truth;

static uint64_t ttft_ns = 50000000, itl_ns = 10000000, jitter_ns, requests, prompt_total, generated_total, hits_total;
static int slots, running, waiting, fault_kind, fault_every = 1, epoll, listener, stop;
static const char *model = "reference", *truth_file;
static Client *line_head, *line_tail, *graves, **heap;
static int heap_len, heap_cap;
static Truth *truths;
static size_t truth_len, truth_cap;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void *grow(void *old, size_t bytes) {
  void *p = realloc(old, bytes);
  if (!p) die("memory");
  return p;
}

/* ---- binary heap by due time ---- */
static void place(int i, Client *c) {
  heap[i] = c;
  c->place = i;
}
static void sift(int i) {
  Client *c = heap[i];
  while (i && heap[(i - 1) / 2]->due > c->due) {
    place(i, heap[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  for (;;) {
    int k = 2 * i + 1;
    if (k >= heap_len) break;
    if (k + 1 < heap_len && heap[k + 1]->due < heap[k]->due) k++;
    if (heap[k]->due >= c->due) break;
    place(i, heap[k]);
    i = k;
  }
  place(i, c);
}
static void schedule(Client *c) {
  if (heap_len == heap_cap) heap = grow(heap, sizeof *heap * (size_t)(heap_cap = 2 * heap_cap + 1024));
  place(heap_len, c);
  sift(heap_len++);
}
static void unschedule(Client *c) {
  int i = c->place;
  if (i < 0) return;
  c->place = -1;
  if (i != --heap_len) {
    place(i, heap[heap_len]);
    sift(i);
  }
}

/* ---- sending ---- */
static void watch(Client *c, bool out) {
  struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
  c->wants_out = out;
}
static bool put(Client *c, const char *data, size_t n) {
  if (!c->out_len) {
    ssize_t r = send(c->fd, data, n, MSG_NOSIGNAL);
    if (r == (ssize_t)n) return true;
    if (r < 0 && errno != EAGAIN) return false;
    if (r > 0) data += r, n -= (size_t)r;
  }
  if (c->out_len + n > c->out_cap) c->out = grow(c->out, c->out_cap = 2 * (c->out_len + n));
  memcpy(c->out + c->out_len, data, n);
  c->out_len += n;
  if (!c->wants_out) watch(c, true);
  return true;
}

/* ---- requests ---- */
static void admit(void);
static void finish(Client *c, int status) {
  if (truth_len == truth_cap) truths = grow(truths, sizeof *truths * (truth_cap = 2 * truth_cap + 1024));
  Truth *t = &truths[truth_len++];
  *t = (Truth){.status = status, .tokens = c->sent, .received = c->received, .first = c->first, .last = c->last, .times = c->times};
  memcpy(t->id, c->id, sizeof t->id);
  c->times = NULL;
  unschedule(c);
  if (c->waiting) {
    if (c->before) c->before->next = c->next; else line_head = c->next;
    if (c->next) c->next->before = c->before; else line_tail = c->before;
    c->waiting = false;
    waiting--;
  }
  c->busy = false;
  if (c->running) {
    c->running = false;
    running--;
    admit();
  }
}
static void hang_up(Client *c, bool reset) {
  if (c->dead) return;
  c->dead = true;
  if (c->busy) finish(c, -1);
  if (reset) {
    struct linger l = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
  }
  close(c->fd);
  c->next = graves;
  graves = c;
}
static void reply(Client *c, int status, const char *reason, const char *kind, const char *extra, const char *body) {
  char text[8192];
  int n = snprintf(text, sizeof text, "HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s%s\r\n%s", status, reason, kind,
                   strlen(body), extra, c->close_after ? "connection: close\r\n" : "", body);
  if (!put(c, text, (size_t)n)) hang_up(c, false);
}
static char *chunk(char *at, const char *event, int n) { return at + sprintf(at, "%x\r\n%.*s\r\n", n, n, event); }
static const char *object_of(Client *c) { return c->chat ? "chat.completion.chunk" : "text_completion"; }
static char *copy(char *at, const char *text, size_t n) { return (char *)memcpy(at, text, n) + n; }
#define LITERAL(at, text) copy(at, text, sizeof(text) - 1)
static char *number(char *at, uint32_t n) { /* ten times as fast as sprintf, which at 100,000 events a second counts */
  char digits[10];
  int k = 10;
  do digits[--k] = (char)('0' + n % 10);
  while (n /= 10);
  return copy(at, digits + k, (size_t)(10 - k));
}
static char *usage_text(char *at, Client *c) {
  at = LITERAL(at, "\"usage\":{\"prompt_tokens\":");
  at = number(at, c->prompt_tokens);
  at = LITERAL(at, ",\"total_tokens\":");
  at = number(at, c->prompt_tokens + c->sent);
  at = LITERAL(at, ",\"completion_tokens\":");
  at = number(at, c->sent);
  return LITERAL(at, ",\"prompt_tokens_details\":null}");
}
static char *head_text(char *at, Client *c) { /* what all events of a response begin with */
  return at + sprintf(at, "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":1,\"model\":\"%s\",\"choices\":[", c->id, object_of(c), model);
}
static char *token_event(char *at, Client *c, bool last) { /* one HTTP chunk; its size, below 4096, stands in three digits */
  static const char hex[] = "0123456789abcdef";
  char *size = at, *event = at + 5;
  at = copy(event, c->head, c->head_len);
  at = c->chat ? LITERAL(at, "{\"index\":0,\"delta\":{\"content\":\" of\"},\"logprobs\":null,\"finish_reason\":")
               : LITERAL(at, "{\"index\":0,\"text\":\" of\",\"logprobs\":null,\"finish_reason\":");
  at = last ? LITERAL(at, "\"length\"") : LITERAL(at, "null");
  at = LITERAL(at, ",\"stop_reason\":null}]");
  if (c->each_usage) *at++ = ',', at = usage_text(at, c);
  at = LITERAL(at, "}\n\n");
  unsigned n = (unsigned)(at - event);
  size[0] = hex[n >> 8 & 15], size[1] = hex[n >> 4 & 15], size[2] = hex[n & 15], size[3] = '\r', size[4] = '\n';
  return LITERAL(at, "\r\n");
}
static bool broken(Client *c) { /* true: the fault has taken over */
  if (!c->fault || c->sent < c->wanted / 2) return false;
  char text[512], *end = text;
  switch (c->fault) {
    case RESET: hang_up(c, true); return true;
    case STALL: unschedule(c); return true; /* until the client gives up */
    case TRUNCATE: put(c, "0\r\n\r\n", 5); break;
    case MALFORMED: {
      static const char bad[] = "data: {\"choices\":[{\"index\":0,\n\n";
      end = chunk(text, bad, sizeof bad - 1);
      put(c, text, (size_t)(end - text));
      put(c, "0\r\n\r\n", 5);
      break;
    }
    case INBAND: {
      static const char bad[] = "data: {\"error\":{\"message\":\"injected\",\"type\":\"InternalServerError\",\"code\":500}}\n\n";
      end = chunk(text, bad, sizeof bad - 1);
      end = chunk(end, "data: [DONE]\n\n", 14);
      put(c, text, (size_t)(end - text));
      put(c, "0\r\n\r\n", 5);
      break;
    }
    default: return false;
  }
  finish(c, 200);
  return true;
}
static void token(Client *c, uint64_t now) {
  char event[1024], text[4096], *end = text;
  if (broken(c)) return;
  if (!c->sent) c->first = now;
  c->last = now;
  if (c->times) c->times[c->sent] = (uint32_t)((now - c->received) / 100);
  c->sent++;
  generated_total++;
  bool last = c->sent == c->wanted;
  end = token_event(end, c, last);
  if (c->fault == TRICKLE) { /* ten times slower than everybody else */
    c->due += 9 * itl_ns;
  }
  if (!last) {
    c->due += itl_ns;
    sift(c->place);
    if (!put(c, text, (size_t)(end - text))) hang_up(c, false);
    return;
  }
  if (c->usage) { /* as vLLM does: the last token, usage, [DONE] and the end leave together */
    char *at = copy(event, c->head, c->head_len);
    at = usage_text(LITERAL(at, "],"), c);
    at = LITERAL(at, "}\n\n");
    end = chunk(end, event, (int)(at - event));
  }
  end = chunk(end, "data: [DONE]\n\n", 14);
  end += sprintf(end, "0\r\n\r\n");
  if (!put(c, text, (size_t)(end - text))) hang_up(c, false);
  else {
    finish(c, 200);
    if (c->close_after && !c->out_len) hang_up(c, false);
  }
}
static void whole(Client *c, uint64_t now) {
  char body[1024], used[256];
  c->first = c->last = now;
  c->sent = c->wanted;
  generated_total += c->wanted;
  *usage_text(used, c) = 0;
  snprintf(body, sizeof body, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":1,\"model\":\"%s\",\"choices\":[{\"index\":0,%s,\"finish_reason\":\"length\"}],%s}",
           c->id, c->chat ? "chat.completion" : "text_completion", model,
           c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\" of\"}" : "\"text\":\" of\"", used);
  reply(c, 200, "OK", "application/json", "", body);
  if (!c->dead) finish(c, 200);
}
static uint64_t mixed(uint64_t n) { /* splitmix64: evenly spread, the same in every run */
  n = (n + 1) * 0x9E3779B97F4A7C15ull;
  n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9ull;
  n = (n ^ (n >> 27)) * 0x94D049BB133111EBull;
  return n ^ (n >> 31);
}
static void start(Client *c, uint64_t now) {
  c->running = true;
  running++;
  prompt_total += c->prompt_tokens;
  c->due = now + ttft_ns + (jitter_ns ? mixed(requests) % jitter_ns : 0) + (c->stream ? 0 : (c->wanted - 1) * itl_ns);
  schedule(c);
}
static void admit(void) {
  while (line_head && running < slots) {
    Client *c = line_head;
    line_head = c->next;
    if (line_head) line_head->before = NULL; else line_tail = NULL;
    c->waiting = false;
    waiting--;
    start(c, now_ns());
  }
}

/* ---- reading: only what this server needs to know of a JSON body ---- */
static const char *value_of(const char *body, const char *end, const char *name) {
  char key[64];
  int n = snprintf(key, sizeof key, "\"%s\"", name);
  for (const char *p = body; (p = memmem(p, (size_t)(end - p), key, (size_t)n)); p += n) {
    const char *v = p + n;
    while (v < end && (*v == ' ' || *v == ':')) v++;
    if (v > p + n && v < end) return v;
  }
  return NULL;
}
static bool truthy(const char *body, const char *end, const char *name) {
  const char *v = value_of(body, end, name);
  return v && end - v >= 4 && !memcmp(v, "true", 4);
}
static uint32_t count_prompt(const char *v, const char *end) { /* token ids: as many as numbers; text: a token for four bytes */
  uint32_t n = 0, depth = 0;
  if (!v) return 0;
  if (*v == '"') {
    const char *p = v + 1;
    while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
    return (uint32_t)((p - v + 2) / 4);
  }
  bool ids = v + 1 < end && (v[1] == ' ' || (v[1] >= '0' && v[1] <= '9'));
  for (const char *p = v; p < end; p++) {
    if (*p == '[') depth++;
    if (*p == ']' && !--depth) break;
    n += ids ? *p == ',' : 1;
  }
  return ids ? n + 1 : (n + 3) / 4;
}
static void generate(Client *c, const char *body, const char *end) {
  c->received = now_ns();
  c->first = c->last = 0;
  c->sent = 0;
  c->busy = true;
  c->stream = truthy(body, end, "stream");
  c->usage = truthy(body, end, "include_usage");
  c->each_usage = truthy(body, end, "continuous_usage_stats");
  const char *wanted = value_of(body, end, "max_tokens");
  if (!wanted) wanted = value_of(body, end, "max_completion_tokens");
  c->wanted = wanted ? (uint32_t)strtoul(wanted, NULL, 10) : 16;
  if (!c->wanted || c->wanted > 1000000) c->wanted = 16;
  c->prompt_tokens = count_prompt(value_of(body, end, c->chat ? "messages" : "prompt"), end);
  requests++;
  c->fault = fault_kind && requests % (uint64_t)fault_every == 0 ? fault_kind : NONE;
  if (!c->id[0]) snprintf(c->id, sizeof c->id, "r-%lu", requests);
  if (c->fault >= HTTP500 && c->fault <= HTTP503) {
    int status = c->fault == HTTP500 ? 500 : c->fault == HTTP429 ? 429 : 503;
    reply(c, status, "Injected", "application/json", c->fault == HTTP500 ? "" : "retry-after: 1\r\n", "{\"error\":{\"message\":\"injected\"}}");
    if (!c->dead) finish(c, status);
    return;
  }
  c->head_len = (size_t)(head_text(c->head, c) - c->head);
  if (truth_file && c->stream) c->times = grow(NULL, sizeof *c->times * c->wanted);
  static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
  if (c->stream && !put(c, head, sizeof head - 1)) {
    hang_up(c, false);
    return;
  }
  if (!slots || running < slots) {
    start(c, c->received);
    return;
  }
  c->waiting = true;
  waiting++;
  c->next = NULL;
  c->before = line_tail;
  if (line_tail) line_tail->next = c; else line_head = c;
  line_tail = c;
}
static void show_metrics(Client *c) {
  char text[2048];
  snprintf(text, sizeof text,
           "vllm:num_requests_running{engine=\"0\"} %d\nvllm:num_requests_waiting{engine=\"0\"} %d\nvllm:prompt_tokens_total{engine=\"0\"} %lu\n"
           "vllm:generation_tokens_total{engine=\"0\"} %lu\nvllm:prefix_cache_queries_total{engine=\"0\"} %lu\n"
           "vllm:prefix_cache_hits_total{engine=\"0\"} %lu\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.0\nvllm:num_preemptions_total{engine=\"0\"} 0\n",
           running, waiting, prompt_total, generated_total, prompt_total, hits_total);
  reply(c, 200, "OK", "text/plain", "", text);
}
static size_t header(const char *head, size_t n, const char *name, char *to, size_t room) {
  size_t k = strlen(name);
  for (const char *p = head, *end = head + n; (p = memchr(p, '\n', (size_t)(end - p))) && ++p + k < end;)
    if (!strncasecmp(p, name, k) && p[k] == ':') {
      const char *v = p + k + 1;
      while (*v == ' ') v++;
      size_t got = 0;
      while (v + got < end && v[got] != '\r' && got + 1 < room) to[got] = v[got], got++;
      to[got] = 0;
      return got;
    }
  return 0;
}
static void answer(Client *c) {
  while (!c->busy && !c->dead && c->in_len) {
    c->in[c->in_len] = 0;
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4), value[64];
    if (!end) return;
    size_t head = (size_t)(end - c->in) + 4, length = 0;
    if (header(c->in, head, "content-length", value, sizeof value)) length = strtoul(value, NULL, 10);
    if (c->in_len < head + length) return;
    c->close_after = header(c->in, head, "connection", value, sizeof value) && !strcasecmp(value, "close");
    if (!header(c->in, head, "x-request-id", c->id, sizeof c->id)) c->id[0] = 0;
    c->chat = !strncmp(c->in, "POST /v1/chat/completions ", 26);
    bool work = c->chat || !strncmp(c->in, "POST /v1/completions ", 21);
    if (work) generate(c, c->in + head, c->in + head + length);
    else if (!strncmp(c->in, "GET /metrics ", 13)) show_metrics(c);
    else if (!strncmp(c->in, "GET /health ", 12)) reply(c, 200, "OK", "text/plain", "", "");
    else if (!strncmp(c->in, "GET /v1/models ", 15)) {
      char text[256];
      snprintf(text, sizeof text, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\"}]}", model);
      reply(c, 200, "OK", "application/json", "", text);
    } else reply(c, 404, "Not Found", "application/json", "", "{\"error\":{\"message\":\"no such path\"}}");
    if (c->dead) return;
    c->in_len -= head + length;
    memmove(c->in, c->in + head + length, c->in_len);
    if (!c->busy && c->close_after && !c->out_len) hang_up(c, false);
  }
}
static void on_input(Client *c) {
  for (;;) {
    if (c->in_len + 1 >= c->in_cap) c->in = grow(c->in, (c->in_cap = 2 * c->in_cap + 8192));
    ssize_t r = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len - 1, 0);
    if (r == 0 || (r < 0 && errno != EAGAIN)) {
      hang_up(c, false);
      return;
    }
    if (r < 0) break;
    c->in_len += (size_t)r;
  }
  answer(c);
}
static void on_room(Client *c) {
  ssize_t r = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
  if (r < 0) {
    if (errno != EAGAIN) hang_up(c, false);
    return;
  }
  c->out_len -= (size_t)r;
  memmove(c->out, c->out + r, c->out_len);
  if (c->out_len) return;
  watch(c, false);
  if (c->close_after && !c->busy) hang_up(c, false);
}
static void on_caller(void) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Client *c = calloc(1, sizeof *c);
    if (!c) die("memory");
    c->fd = fd;
    c->place = -1;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) die("epoll");
  }
}
static void bury(void) {
  while (graves) {
    Client *c = graves;
    graves = c->next;
    free(c->in);
    free(c->out);
    free(c->times);
    free(c);
  }
}
static void tell_truth(void) {
  FILE *f = truth_file ? fopen(truth_file, "w") : NULL;
  if (!f) return;
  for (size_t i = 0; i < truth_len; i++) {
    Truth *t = &truths[i];
    fprintf(f, "%s %d %u %lu %lu %lu", t->id, t->status, t->tokens, t->received, t->first, t->last);
    for (uint32_t k = 0; t->times && k < t->tokens; k++) fprintf(f, " %lu", 100 * (unsigned long)t->times[k]);
    fputc('\n', f);
  }
  if (fclose(f)) die(truth_file);
}
static int kind_of(const char *text) {
  char name[32];
  const char *colon = strchr(text, ':');
  snprintf(name, sizeof name, "%.*s", colon ? (int)(colon - text) : 31, text);
  if (colon) fault_every = atoi(colon + 1) > 0 ? atoi(colon + 1) : 1;
  for (int k = 0; k < KINDS; k++)
    if (!strcmp(name, KIND[k])) return k;
  fprintf(stderr, "unknown fault %s\n", name);
  exit(2);
}
static int listen_at(const char *host, int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  socklen_t n = sizeof a;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 8192)) die("listen");
  getsockname(fd, (struct sockaddr *)&a, &n);
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  return fd;
}
static int stop_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, NULL);
  return signalfd(-1, &set, SFD_CLOEXEC);
}
static void serve(void) {
  struct epoll_event events[512];
  for (;;) {
    uint64_t now = now_ns();
    for (int fired = 0; heap_len && heap[0]->due <= now && fired < 64; fired++) {
      Client *c = heap[0];
      if (c->stream) token(c, now); else whole(c, now);
      now = now_ns();
    }
    struct timespec wait = {0, 0}, *how_long = heap_len ? &wait : NULL;
    if (heap_len && heap[0]->due > now) {
      wait.tv_sec = (time_t)((heap[0]->due - now) / 1000000000u);
      wait.tv_nsec = (long)((heap[0]->due - now) % 1000000000u);
    }
    int n = epoll_pwait2(epoll, events, 512, how_long, NULL);
    for (int i = 0; i < n; i++) {
      void *who = events[i].data.ptr;
      if (who == &listener) on_caller();
      else if (who == &stop) return;
      else {
        Client *c = who;
        if (!c->dead && (events[i].events & EPOLLOUT)) on_room(c);
        if (!c->dead && (events[i].events & ~EPOLLOUT)) on_input(c);
      }
    }
    bury();
  }
}
int main(int argc, char **argv) {
  static const struct option OPTIONS[] = {{"port", 1, 0, 'p'},  {"host", 1, 0, 'h'},  {"ttft-us", 1, 0, 't'}, {"itl-us", 1, 0, 'i'}, {"slots", 1, 0, 's'},
                                          {"model", 1, 0, 'm'}, {"truth", 1, 0, 'T'}, {"fault", 1, 0, 'f'},   {"hits", 1, 0, 'H'}, {"jitter-us", 1, 0, 'j'},   {0, 0, 0, 0}};
  const char *host = "127.0.0.1";
  int port = 0, option;
  while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) switch (option) {
      case 'p': port = atoi(optarg); break;
      case 'h': host = optarg; break;
      case 't': ttft_ns = strtoull(optarg, NULL, 10) * 1000; break;
      case 'i': itl_ns = strtoull(optarg, NULL, 10) * 1000; break;
      case 'j': jitter_ns = strtoull(optarg, NULL, 10) * 1000; break;
      case 's': slots = atoi(optarg); break;
      case 'm': model = optarg; break;
      case 'T': truth_file = optarg; break;
      case 'f': fault_kind = kind_of(optarg); break;
      case 'H': hits_total = strtoull(optarg, NULL, 10); break;
      default: return 2;
    }
  struct rlimit files;
  if (!getrlimit(RLIMIT_NOFILE, &files)) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  prctl(PR_SET_TIMERSLACK, 1ul);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (strlen(model) > 100) return 2;
  stop = stop_signals();
  listener = listen_at(host, port);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listener};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
  e.data.ptr = &stop;
  epoll_ctl(epoll, EPOLL_CTL_ADD, stop, &e);
  serve();
  tell_truth();
  return 0;
}
