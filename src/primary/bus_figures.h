/* What goes through the bus, into shared memory: for tinectl and the admin process. Runs in the primary. */
#pragma once

struct primary;

void bus_figures_refresh(struct primary *p);
void bus_figures_heartbeat(struct primary *p);
