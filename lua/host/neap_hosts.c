/* SPDX-License-Identifier: MIT */
/* neap_hosts.c - host files of `neap launch`, and the address that others reach this host by. */
#define _GNU_SOURCE
#include "neap_spawn.h"
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_TURNS = 100000 };

static int host_number(neap_places *p, const char *name) {
  for (int i = 0; i < p->num_hosts; i++)
    if (strcmp(p->hosts[i].name, name) == 0) return i;
  neap_place *more = realloc(p->hosts, (size_t)(p->num_hosts + 1) * sizeof *more);
  if (!more) return -1;
  p->hosts = more;
  p->hosts[p->num_hosts] = (neap_place){.processes = 0};
  snprintf(p->hosts[p->num_hosts].name, sizeof more->name, "%s", name);
  snprintf(p->hosts[p->num_hosts].address, sizeof more->address, "%s", name);
  return p->num_hosts++;
}

/* A name that ssh could take for an option, or a shell for more than a word, is none. */
static bool is_name(const char *name) {
  return name[0] != '-' && strlen(name) < 256 &&
         strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@:") ==
             strlen(name);
}

/* One line without its comment; NULL, or what is wrong with it. */
static const char *read_line(neap_places *p, char *line) {
  char *rest, *name = strtok_r(line, " \t\r\n", &rest);
  if (!name) return NULL;
  if (!is_name(name)) return "this is no name of a host";
  int number = host_number(p, name), slots = 1;
  if (number < 0) return "no memory";
  for (char *word; (word = strtok_r(NULL, " \t\r\n", &rest));) {
    char *end = word;
    if (strncmp(word, "slots=", 6) == 0) {
      slots = (int)strtol(word + 6, &end, 10);
      if (*end || slots < 1 || slots > 10000) return "slots= takes a number from 1";
    } else if (strncmp(word, "addr=", 5) == 0 && is_name(word + 5) && word[5]) {
      snprintf(p->hosts[number].address, sizeof p->hosts->address, "%s", word + 5);
    } else {
      return "a line is: NAME [slots=N] [addr=ADDRESS]";
    }
  }
  if (p->num_turns + slots > MOST_TURNS) return "that is too many slots";
  int *more = realloc(p->turns, (size_t)(p->num_turns + slots) * sizeof *more);
  if (!more) return "no memory";
  p->turns = more;
  while (slots-- > 0) p->turns[p->num_turns++] = number;
  return NULL;
}

bool neap_places_read(const char *path, neap_places *out, char *error, size_t size) {
  neap_places p = {0};
  FILE *file = fopen(path, "re");
  if (!file) {
    snprintf(error, size, "%s: %s", path, strerror(errno));
    return false;
  }
  char line[1024];
  const char *wrong = NULL;
  int number = 0;
  while (!wrong && fgets(line, sizeof line, file)) {
    number++;
    line[strcspn(line, "#")] = 0;
    wrong = read_line(&p, line);
  }
  bool bad = ferror(file) != 0;
  fclose(file);
  if (wrong)
    snprintf(error, size, "%s:%d: %s", path, number, wrong);
  else if (bad || p.num_turns == 0)
    snprintf(error, size, "%s: %s", path, bad ? "it cannot be read" : "there are no hosts in it");
  if (wrong || bad || p.num_turns == 0) {
    neap_places_free(&p);
    return false;
  }
  *out = p;
  return true;
}

void neap_places_free(neap_places *places) {
  free(places->hosts);
  free(places->turns);
  *places = (neap_places){0};
}

/* ---- This host's address ------------------------------------------------------------------ */

/* The one that the system would send from: a datagram socket that is connected, but sends nothing.
 */
static bool address_towards(const char *host, char *out, size_t size) {
  const char *at = strchr(host, '@');
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *found = NULL;
  if (getaddrinfo(at ? at + 1 : host, "9", &hints, &found) != 0) return false;
  struct sockaddr_in from;
  socklen_t length = sizeof from;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool good = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
              getsockname(fd, (struct sockaddr *)&from, &length) == 0 &&
              getnameinfo((struct sockaddr *)&from, length, out, (socklen_t)size, NULL, 0,
                          NI_NUMERICHOST) == 0;
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  return good;
}

/* The first one that is not loopback. */
static bool any_address(char *out, size_t size) {
  struct ifaddrs *all = NULL;
  bool good = false;
  if (getifaddrs(&all) != 0) return false;
  for (struct ifaddrs *i = all; i && !good; i = i->ifa_next)
    good = i->ifa_addr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) &&
           !(i->ifa_flags & IFF_LOOPBACK) &&
           getnameinfo(i->ifa_addr, sizeof(struct sockaddr_in), out, (socklen_t)size, NULL, 0,
                       NI_NUMERICHOST) == 0;
  freeifaddrs(all);
  return good;
}

void neap_own_address(const neap_places *places, char *out, size_t size) {
  if (address_towards(places->hosts[0].name, out, size) || any_address(out, size)) return;
  snprintf(out, size, "127.0.0.1");
}
