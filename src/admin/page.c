/*
 * The dashboard: three files that the build has put into the binary (page/).
 */
#include <string.h>

#include <tine/http.h>

#include "admin/admin.h"
#include "admin_page.h" /* made by src/admin/embed */

/* The route "/" stands for everything below it, too. */
static void serve_index(struct tine_request *request, void *arg)
{
	if (tine_request_path(request).len > 1)
		tine_respond_status(request, 404);
	else
		tine_respond(request, 200, "text/html; charset=utf-8", page_index_html,
			sizeof(page_index_html));
}

static void serve_script(struct tine_request *request, void *arg)
{
	tine_respond(
		request, 200, "text/javascript; charset=utf-8", page_app_js, sizeof(page_app_js));
}

static void serve_style(struct tine_request *request, void *arg)
{
	tine_respond(
		request, 200, "text/css; charset=utf-8", page_style_css, sizeof(page_style_css));
}

int page_routes(struct admin *a)
{
	int r = admin_route(a, TINE_GET, "/", serve_index);

	if (r == 0)
		r = admin_route(a, TINE_GET, "/app.js", serve_script);
	if (r == 0)
		r = admin_route(a, TINE_GET, "/style.css", serve_style);
	return r;
}
