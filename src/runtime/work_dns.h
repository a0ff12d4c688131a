/* Ready-made work: names and addresses, tine/work_dns.h. */
#pragma once

#include <tine/work_dns.h>

int work_dns_lookup(struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret);
int work_dns_reverse(struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret);
