/* A socket address as text and as the kernel wants it. Pure functions; numeric addresses only. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

enum address_kind { ADDRESS_INET, ADDRESS_UNIX, ADDRESS_SYSTEMD };

struct address {
	enum address_kind kind;
	struct sockaddr_storage sa; /* unset for ADDRESS_SYSTEMD */
	socklen_t len;
	char text[128]; /* canonical: 127.0.0.1:80, [::1]:80, unix:/path, systemd:NAME */
};

int address_parse(const char *s, struct address *ret, const char **ret_why);
int address_of_socket(int fd, struct address *ret);
bool address_equal(const struct address *a, const struct address *b);
