/* The physical limit that the load generator is held against: one thread, epoll, no parsing beyond the end of a body.
 *   client PORT STREAMS REQUESTS TOKENS
 * Keeps STREAMS requests under way; prints "id sent_ns first_ns last_ns" of each, CLOCK_MONOTONIC, from user space. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct stream { int fd, request; bool headed; char last[7]; };
struct request { uint64_t sent, first, last; };

static struct request *requests;
static int wanted, issued, tokens;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }

static void issue(struct stream *s) {
  char body[256], text[512];
  int length = snprintf(body, sizeof body,
      "{\"model\":\"reference\",\"prompt\":\"the\",\"max_tokens\":%d,\"stream\":true}", tokens);
  s->request = issued++;
  s->headed = false;
  int all = snprintf(text, sizeof text,
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "X-Request-Id: c-%d\r\nContent-Length: %d\r\n\r\n%s", s->request, length, body);
  requests[s->request].sent = now();
  if (send(s->fd, text, (size_t)all, 0) != all) fail("send");
}

/* A read is a token, or the headers alone. The last seven bytes of all that came tell whether the body ended. */
static bool ended(struct stream *s, const char *data, size_t size) {
  char tail[14];
  size_t kept = size < 7 ? 7 - size : 0, taken = 7 - kept;
  memcpy(tail, s->last + 7 - kept, kept);
  memcpy(tail + kept, data + size - taken, taken);
  memcpy(s->last, tail, 7);
  return !memcmp(s->last, "\r\n0\r\n\r\n", 7);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int streams = atoi(argv[2]), under_way = 0, poll = epoll_create1(0);
  wanted = atoi(argv[3]);
  tokens = atoi(argv[4]);
  requests = calloc((size_t)wanted, sizeof *requests);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  for (int i = 0; i < streams && issued < wanted; i++, under_way++) {
    struct stream *s = calloc(1, sizeof *s);
    int yes = 1;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s->fd, (void *)&to, sizeof to)) fail("connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = s};
    epoll_ctl(poll, EPOLL_CTL_ADD, s->fd, &wish);
    issue(s);
  }
  static char data[65536];
  while (under_way) {
    struct epoll_event ready[256];
    int n = epoll_wait(poll, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      struct stream *s = ready[i].data.ptr;
      ssize_t size = recv(s->fd, data, sizeof data, 0);
      uint64_t at = now();
      if (size <= 0) fail("recv");
      struct request *r = &requests[s->request];
      if (!s->headed) s->headed = memmem(data, (size_t)size, "data: {", 7) != NULL;
      if (s->headed && !r->first) r->first = at;
      r->last = at;
      if (!ended(s, data, (size_t)size)) continue;
      if (issued < wanted) issue(s); else under_way--;
    }
  }
  for (int i = 0; i < wanted; i++)
    printf("c-%d %llu %llu %llu\n", i, (unsigned long long)requests[i].sent, (unsigned long long)requests[i].first,
           (unsigned long long)requests[i].last);
  return 0;
}
