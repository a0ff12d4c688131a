/* What every unit test's main() does: run one case of tests and say by the exit status how it went. */
#pragma once

#include <check.h>
#include <stdlib.h>

/* Check would write where each assertion that holds stands to a file, which takes most of the time of long loops, and a lock of threads,
 * behind which their races would hide. Nobody reads it where tests are not forked. */
#undef _mark_point
#define _mark_point(file, line) ((void)0)

static inline int run_tests(const char *name, void (*add)(TCase *tc))
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	add(tc);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
