/*
 * json: a small REST API with jansson (Debian: libjansson-dev). Items are listed, created, read and deleted as JSON,
 * errors are JSON too, and a middleware asks for a token.
 *
 *	cc -shared -fPIC -Iinclude -o examples/json/json.so examples/json/json.c -ljansson
 *	build/tined -c examples/json/json.ini
 *
 *	auth='Authorization: Bearer secret'
 *	curl -H "$auth" http://127.0.0.1:8080/items -d '{"name": "tea", "price": 3}'
 *	curl -H "$auth" http://127.0.0.1:8080/items
 *	curl -H "$auth" http://127.0.0.1:8080/items/1
 *	curl -H "$auth" -X DELETE http://127.0.0.1:8080/items/1
 *
 * The items are in the memory of one worker process: others do not see them, and a reload begins with none. That is why
 * json.ini asks for one worker. A real service keeps such things in a database.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <tine/http.h>

static const struct tine_option options[] = {
	{.name = "token",
		.doc = "What clients must send as Authorization: Bearer TOKEN; not empty."},
	{.name = "max_items",
		.type = TINE_OPTION_INT,
		.def = "1000",
		.min = "1",
		.max = "1000000",
		.doc = "How many items there may be."},
	{.name = NULL},
};

struct store {
	const char *token;
	size_t max_items;
	json_t *items; /* object: id as text -> item */
	json_int_t last_id;
};

/* Answers with a value, and gives it up. */
static void respond_json(struct tine_request *request, int status, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	if (text)
		tine_respond(request, status, "application/json", text, strlen(text));
	else
		tine_respond_status(request, 500); /* out of memory */
	free(text);
	json_decref(value);
}

static void respond_error(struct tine_request *request, int status, const char *why)
{
	respond_json(request, status, json_pack("{s:s}", "error", why));
}

/* In a time that does not tell how much of it was right. */
static bool token_is(struct tine_text given, const char *token)
{
	size_t len = strlen(token);
	unsigned char differ = given.len != len;

	for (size_t i = 0; i < given.len; i++)
		differ |= (unsigned char)(given.data[i] ^ token[i % len]);
	return differ == 0;
}

static int check_token(struct tine_request *request, void *arg)
{
	const struct store *s = arg;
	struct tine_text given = tine_request_header(request, "Authorization");

	if (given.len > 7 && strncasecmp(given.data, "Bearer ", 7) == 0 &&
		token_is((struct tine_text){given.data + 7, given.len - 7}, s->token))
		return TINE_NEXT;
	tine_respond_header(request, "WWW-Authenticate", "Bearer");
	respond_error(request, 401, "a token is needed: Authorization: Bearer TOKEN");
	return TINE_TAKEN;
}

static void on_list(struct tine_request *request, void *arg)
{
	const struct store *s = arg;
	json_t *list = json_array(), *item;
	const char *id;

	json_object_foreach(s->items, id, item) json_array_append(list, item);
	respond_json(request, 200, list);
}

static void on_create(struct tine_request *request, void *arg)
{
	struct store *s = arg;
	struct tine_text body = tine_request_body(request);
	json_error_t error;
	json_t *item;
	char id[24], text[64];

	if (json_object_size(s->items) >= s->max_items) {
		respond_error(request, 507, "there is no room for another item");
		return;
	}
	item = json_loadb(body.len > 0 ? body.data : "", body.len, JSON_REJECT_DUPLICATES, &error);
	if (!item) {
		snprintf(text, sizeof(text), "not JSON: line %d, column %d", error.line,
			error.column);
		respond_error(request, 400, text);
		return;
	}
	if (!json_is_string(json_object_get(item, "name"))) {
		json_decref(item);
		respond_error(
			request, 400, "an item is an object with a \"name\", which is a text");
		return;
	}
	snprintf(id, sizeof(id), "%" JSON_INTEGER_FORMAT, ++s->last_id);
	if (json_object_set_new(item, "id", json_integer(s->last_id)) < 0 ||
		json_object_set(s->items, id, item) < 0) {
		json_decref(item);
		respond_error(request, 500, "out of memory");
		return;
	}
	snprintf(text, sizeof(text), "items/%s", id); /* relative to /items */
	tine_respond_header(request, "Location", text);
	respond_json(request, 201, item);
}

/* The item that {id} of the path names, or NULL when it has been answered that there is none. */
static json_t *find_item(struct tine_request *request, const struct store *s, char id[24])
{
	struct tine_text text = tine_request_param(request, "id");
	json_t *item = NULL;

	if (text.len < 24) {
		memcpy(id, text.data, text.len);
		id[text.len] = '\0';
		item = json_object_get(s->items, id);
	}
	if (!item)
		respond_error(request, 404, "there is no such item");
	return item;
}

static void on_get(struct tine_request *request, void *arg)
{
	char id[24];
	json_t *item = find_item(request, arg, id);

	if (item)
		respond_json(request, 200, json_incref(item));
}

static void on_delete(struct tine_request *request, void *arg)
{
	struct store *s = arg;
	char id[24];

	if (!find_item(request, s, id))
		return;
	json_object_del(s->items, id);
	tine_respond(request, 204, NULL, NULL, 0);
}

static void on_other(struct tine_request *request, void *arg)
{
	respond_error(request, 404, "there are /items and /items/{id}");
}

static int configure(const struct tine_config *config)
{
	if (*tine_config_string(config, "token") == '\0')
		return tine_config_error(config, "token", "write a token");
	return 0;
}

static int add_routes(struct tine_worker *worker, struct store *s)
{
	static const struct {
		unsigned methods;
		const char *path;
		tine_http_fn fn;
	} routes[] = {
		{TINE_GET, "/items", on_list},
		{TINE_POST, "/items", on_create},
		{TINE_GET, "/items/{id}", on_get},
		{TINE_DELETE, "/items/{id}", on_delete},
		{TINE_GET | TINE_POST | TINE_PUT | TINE_DELETE | TINE_PATCH, "/", on_other},
	};
	int r = tine_http_use(worker, "/", check_token, s);

	for (size_t i = 0; i < sizeof(routes) / sizeof(*routes) && r == 0; i++)
		r = tine_http_route(worker, routes[i].methods, routes[i].path, routes[i].fn, s);
	return r;
}

static void stop(void *state)
{
	struct store *s = state;

	json_decref(s->items);
	free(s);
}

static int start(struct tine_worker *worker, void **ret_state)
{
	const struct tine_config *config = tine_worker_config(worker);
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->token = tine_config_string(config, "token");
	s->max_items = (size_t)tine_config_number(config, "max_items");
	s->items = json_object();
	r = s->items ? add_routes(worker, s) : -ENOMEM;
	if (r < 0) {
		stop(s);
		return tine_worker_error(worker, "%s", strerror(-r));
	}
	*ret_state = s;
	return 0;
}

TINE_MODULE = {
	.abi = TINE_ABI,
	.size = sizeof(struct tine_module),
	.name = "json",
	.options = options,
	.configure = configure,
	.worker_start = start,
	.worker_stop = stop,
};
