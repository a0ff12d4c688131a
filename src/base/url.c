#include "base/url.h"

#include <string.h>

/* Cuts out of every address in the text what stands before its `@`. Up to a blank or a comma all of it may be a password. */
void url_cut_users(char *text)
{
	while ((text = strstr(text, "://"))) {
		const char *at;

		text += strlen("://");
		at = memrchr(text, '@', strcspn(text, " \t\r\n,"));
		if (at)
			memmove(text, at + 1, strlen(at));
	}
}
