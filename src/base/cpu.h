/* How many CPUs this process may really use, and which. */
#pragma once

unsigned cpu_available(void);
unsigned cpu_from_quota(const char *cgroup_root, const char *path);
int cpu_pin(unsigned index);
