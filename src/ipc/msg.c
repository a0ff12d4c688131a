/*
 * The message table at run time.
 */
#include "ipc/msg.h"

#include <errno.h>

const struct msg_rule msg_rules[MSG_TYPE_END] = {
#define X(name_, no_, lane_, senders_, fds_, size_, payload_) \
	[no_] = {#name_, lane_, senders_, fds_, size_, payload_},
	MSG_TABLE(X)
#undef X
};

static const uint16_t flags_allowed[MSG_TYPE_END] = {
#define X(name, flags) [MSG_##name] = (flags),
	MSG_FLAGS_TABLE(X)
#undef X
};

/* A descriptor that is the payload has to come along. */
static bool flags_allow(const struct frame *f)
{
	if (f->flags == 0)
		return true;
	return !(f->flags & ~flags_allowed[f->type]) &&
		(!(f->flags & FRAME_LARGE) || (f->flags & FRAME_FD));
}

const char *msg_name(unsigned type)
{
	const struct msg_rule *r = msg_rule(type);

	return r ? r->name : "unknown message";
}

/*
 * Checks a header as soon as it is there, before its payload is waited for.
 * Returns 0, or -EPROTO and why in static text.
 */
int msg_validate(
	const struct frame *f, enum msg_lane lane, enum msg_role sender, const char **ret_why)
{
	const struct msg_rule *r = msg_rule(f->type);

	if (!r)
		*ret_why = "unknown message number";
	else if (r->lane != lane)
		*ret_why = "message on the wrong lane";
	else if (!(r->senders & (unsigned)sender))
		*ret_why = "message its sender may not send";
	else if (!flags_allow(f))
		*ret_why = "undefined flags";
	else if (f->length > r->payload || (r->size == MSG_EXACT && f->length != r->payload))
		*ret_why = "wrong payload length";
	else
		return 0;
	return -EPROTO;
}
