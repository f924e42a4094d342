/* The least a server can do for SSE: one send() of each frame to each subscriber, and nothing else.
 *
 *   floor <subscriber port> <publisher port>
 *
 * A subscriber sends any HTTP GET and gets a response head; a publisher sends frames, each after its length
 * (32 bits, little endian).  One thread, one epoll.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 65536, BUFFER = 1 << 20, WAIT_MS = 1000 };

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    "retry: 3000\n:\n";

static int subscribers[MAX_FD], place[MAX_FD], count;
static char buffer[BUFFER];
static size_t held;

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void add(int fd) {
    place[fd] = count + 1;
    subscribers[count++] = fd;
}

static void drop(int fd) {
    int at = place[fd] - 1;
    if (at >= 0) {
        subscribers[at] = subscribers[--count];
        place[subscribers[at]] = at + 1;
        place[fd] = 0;
    }
    close(fd);
}

/* A full socket is waited for: the floor loses nothing, it only gets slower. */
static int send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            size -= sent;
        } else if (errno == EAGAIN) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            if (poll(&full, 1, WAIT_MS) != 1) return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static void broadcast(const char *frame, size_t size) {
    for (int i = 0; i < count;) {
        int fd = subscribers[i];
        if (send_all(fd, frame, size)) drop(fd); /* the last one takes its place */
        else i++;
    }
}

static void published(int fd) {
    ssize_t got = read(fd, buffer + held, BUFFER - held);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) close(fd);
        return;
    }
    held += got;
    size_t at = 0;
    while (held - at >= 4) {
        uint32_t size;
        memcpy(&size, buffer + at, 4);
        if (size > BUFFER - 4) exit(1);
        if (held - at - 4 < size) break;
        broadcast(buffer + at + 4, size);
        at += 4 + size;
    }
    held -= at;
    memmove(buffer, buffer + at, held);
}

static void arrived(int listener, int poller) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(poller, fd);
    }
}

static void spoke(int fd) {
    char request[4096];
    ssize_t got = read(fd, request, sizeof request);
    if (got > 0) {
        if (!place[fd]) {
            add(fd);
            if (send_all(fd, HEAD, sizeof HEAD - 1)) drop(fd);
        }
    } else if (got == 0 || errno != EAGAIN) {
        drop(fd);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int in = listen_on(atoi(argv[1])), control = listen_on(atoi(argv[2])), poller = epoll_create1(0), publisher = -1;
    watch(poller, in);
    watch(poller, control);
    struct epoll_event events[512];
    for (;;) {
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == in) {
                arrived(in, poller);
            } else if (fd == control) {
                publisher = accept4(control, NULL, NULL, SOCK_NONBLOCK);
                held = 0;
                if (publisher >= 0) watch(poller, publisher);
            } else if (fd == publisher) {
                published(fd);
            } else {
                spoke(fd);
            }
        }
    }
}
