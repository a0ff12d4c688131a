/* Commands about the bus (ipc/commands.h). Runs in the primary. */
#pragma once

#include <stddef.h>

struct bus_follower;
struct command_request;

void bus_do_show(struct command_request *r, const char *argument);
void bus_do_publish(struct command_request *r, const char *argument);
void bus_do_follow(struct command_request *r, const char *argument);
struct bus_follower *bus_follower_free(struct bus_follower *f);
