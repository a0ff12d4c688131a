/*
 * The least that starting a program costs here: posix_spawn(3) of PROGRAM and waitpid(2), FLIGHT at a time, in a small process
 * without a loop, without streams, without anything.
 *
 * usage: spawn_floor PROGRAM SECONDS FLIGHT     prints "CHILDREN SECONDS"
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	char *const child[] = {argc > 3 ? argv[1] : "/bin/true", NULL};
	int seconds = argc > 3 ? atoi(argv[2]) : 1, flight = argc > 3 ? atoi(argv[3]) : 1;
	unsigned long n_done = 0;
	double begun = now();
	int running = 0;

	while (now() < begun + seconds || running > 0) {
		pid_t pid;

		for (; running < flight && now() < begun + seconds; running++) {
			if (posix_spawn(&pid, child[0], NULL, NULL, child, environ) != 0)
				return EXIT_FAILURE;
		}
		if (waitpid(-1, NULL, 0) < 0)
			return EXIT_FAILURE;
		running--;
		n_done++;
	}
	printf("%lu %.6f\n", n_done, now() - begun);
	return EXIT_SUCCESS;
}
