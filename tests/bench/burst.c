/*
 * burst PORT N - opens N connections to 127.0.0.1:PORT as fast as one process can, says how many milliseconds that
 * took, and keeps them until its standard input ends.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	double start;

	if (argc != 3) {
		fprintf(stderr, "usage: burst PORT N\n");
		return 2;
	}
	a.sin_port = htons((uint16_t)atoi(argv[1]));
	start = now_ms();
	for (int i = 0, n = atoi(argv[2]); i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
			perror("burst: connect");
			return 1;
		}
	}
	printf("%.1f\n", now_ms() - start);
	fflush(stdout);
	return getchar() == EOF ? 0 : 1;
}
