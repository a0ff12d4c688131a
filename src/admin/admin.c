/*
 * The admin process. Runs in a process of its own.
 */
#include "admin/admin.h"

#include <stdlib.h>

#include "base/log.h"

int admin_main(const struct child *c)
{
	log_error("not there yet");
	return EXIT_FAILURE;
}
