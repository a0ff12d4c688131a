/*
 * Options that count from the start of tined to its end: what a reload says when they have changed. Primary only.
 */
#include "primary/lasting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "primary/events.h"
#include "primary/primary.h"
#include "shared/config.h"
#include "shared/history.h"
#include "shared/options.h"

/* Notes the values that we have been started with. Returns 0 or -ENOMEM. */
int lasting_note(struct primary *p, const struct config *c)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		if (option_table[i].effect != EFFECT_RESTART)
			continue;
		p->lasting[i] = config_text(c, &option_table[i]);
		if (!p->lasting[i])
			return -ENOMEM;
	}
	return 0;
}

/* Says which of them are others in the configuration that serves now: at each reload, until they count. ret: their names, or "". */
void lasting_compare(struct primary *p, const struct config *c, char *ret, size_t size)
{
	size_t used = 0;

	*ret = '\0';
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *o = &option_table[i];
		CLEANUP(freep) char *text = p->lasting[i] ? config_text(c, o) : NULL;

		if (!text || strcmp(text, p->lasting[i]) == 0)
			continue;
		event_note(p, LOG_LVL_WARNING, EVENT_RELOAD, NULL,
			"reload: [%s] %s = %s counts when tined is restarted; until then it is %s",
			option_sections[o->section].name, o->key, text,
			*p->lasting[i] ? p->lasting[i] : "empty");
		if (used < size)
			used += (size_t)snprintf(ret + used, size - used, "%s[%s] %s",
				used ? ", " : "", option_sections[o->section].name, o->key);
	}
}

void lasting_free(struct primary *p)
{
	for (size_t i = 0; i < n_option_rows; i++)
		free(p->lasting[i]);
}
