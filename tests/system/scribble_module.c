/* The module of a worker that has gone astray: it writes over all shared memory of the daemon's that lets it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tine/http.h>

#define MAPPINGS 64

struct mapping {
	unsigned long from, to;
	char mode[8], name[64];
};

static size_t find_mappings(struct mapping *ret)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	size_t n = 0;

	while (maps && n < MAPPINGS && fgets(line, sizeof(line), maps)) {
		struct mapping *m = &ret[n];

		m->name[0] = '\0';
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %63s", &m->from, &m->to, m->mode,
			    m->name) < 3)
			continue;
		/* what modules share (tined-shared) is theirs to write to */
		n += m->mode[3] == 's' &&
			(strstr(m->name, "tined-") || strstr(m->name, "/dev/zero")) &&
			!strstr(m->name, "tined-shared");
	}
	if (maps)
		fclose(maps);
	return n;
}

/* ?ff: the byte to write, in hexadecimal; r: random ones. Answers with how many bytes it could write to. */
static void on_scribble(struct tine_request *request, void *arg)
{
	struct mapping mappings[MAPPINGS];
	size_t n = find_mappings(mappings);
	struct tine_text query = tine_request_query(request);
	char hex[3] = {0}, text[32];
	unsigned long written = 0;
	int len;

	memcpy(hex, query.data, query.len < 2 ? query.len : 2);
	for (size_t i = 0; i < n; i++) {
		char *at = (char *)mappings[i].from, *end = (char *)mappings[i].to;

		if (mappings[i].mode[1] != 'w')
			continue;
		written += (unsigned long)(end - at);
		for (; at < end; at++)
			*at = (char)(*hex == 'r' ? random() : (long)strtoul(hex, NULL, 16));
	}
	len = snprintf(text, sizeof(text), "%lu", written);
	tine_respond(request, 200, "text/plain", text, (size_t)len);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	return tine_http_route(worker, TINE_GET, "/", on_scribble, NULL);
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "scribbles",
	.worker_start = start,
};
