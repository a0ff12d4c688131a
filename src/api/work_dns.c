/* tine/work_dns.h: names and addresses off the loop, for modules. Runs in the worker, on the loop's thread. */
#include "runtime/work_dns.h"

int tine_dns_lookup(struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret)
{
	return work_dns_lookup(worker, d, ret);
}

int tine_dns_reverse(struct tine_worker *worker, const struct tine_dns *d, struct tine_work **ret)
{
	return work_dns_reverse(worker, d, ret);
}
