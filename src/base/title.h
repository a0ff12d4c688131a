/* What ps(1) and top(1) show of a process. */
#pragma once

void title_init(int argc, char **argv);
void title_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
