/* What a task function sees and answers, in the process that runs it: tine/farm.h without the process. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "run.h"
#include "runtime/module.h"
#include "runtime/task.h"
#include "shared/config.h"

#define MAX_RESULT 100000

static struct tine_config config;
static struct tine_task task;

static void set_up(void)
{
	memset(&task, 0xa5, sizeof(task));
	task_init(&task, &config, "f", MAX_RESULT);
	task_begin(&task, "argument", 8, 3);
}

static void tear_down(void)
{
	task_end(&task);
}

static int run(int (*fn)(struct tine_task *task, void *state))
{
	const struct tine_task_function f = {"fn", fn};

	return task_run(&task, &f, &config);
}

static int look(struct tine_task *t, void *state)
{
	size_t len;

	ck_assert_ptr_eq(state, &config);
	ck_assert_mem_eq(tine_task_data(t, &len), "argument", 8);
	ck_assert_uint_eq(len, 8);
	ck_assert_uint_eq(tine_task_tries(t), 3);
	ck_assert_ptr_eq(tine_task_config(t), &config);
	return 0;
}

START_TEST(test_argument)
{
	ck_assert_int_eq(run(look), 0);
	ck_assert_uint_eq(task.answer_len, 0);
	ck_assert_int_eq(task.blob, -1);
}
END_TEST

static int answer_twice(struct tine_task *t, void *state)
{
	char data[] = "result";

	ck_assert_int_eq(tine_task_answer(t, data, 6), 0);
	memset(data, 0, sizeof(data)); /* it was copied */
	ck_assert_int_eq(tine_task_answer(t, "second", 6), -EALREADY);
	return 0;
}

START_TEST(test_answer)
{
	ck_assert_int_eq(run(answer_twice), 0);
	ck_assert_uint_eq(task.answer_len, 6);
	ck_assert_mem_eq(task.answer, "result", 6);
	task_end(&task);
	task_begin(&task, "", 0, 0); /* nothing of it is left */
	ck_assert_uint_eq(task.answer_len, 0);
	ck_assert_int_eq(tine_task_answer(&task, NULL, 1), -EINVAL);
	ck_assert_int_eq(tine_task_answer(&task, NULL, 0), 0);
}
END_TEST

static size_t size;

static int answer_size(struct tine_task *t, void *state)
{
	static char data[MAX_RESULT + 1];

	return tine_task_answer(t, data, size);
}

START_TEST(test_sizes)
{
	struct stat st;

	size = MSG_PAYLOAD_MAX;
	ck_assert_int_eq(run(answer_size), 0);
	ck_assert_int_eq(task.blob, -1);
	task_begin(&task, "", 0, 0);
	size = MSG_PAYLOAD_MAX + 1;
	ck_assert_int_eq(run(answer_size), 0);
	ck_assert_int_eq(fstat(task.blob, &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, size);
	ck_assert_uint_eq(task.answer_len, size);
	task_end(&task);
	ck_assert_int_eq(task.blob, -1);
	task_begin(&task, "", 0, 0);
	size = MAX_RESULT + 1;
	ck_assert_int_eq(run(answer_size), TINE_E_TOO_LARGE);
	ck_assert_int_eq(task.blob, -1);
	ck_assert_str_eq(task.text,
		"the result has 100001 bytes, more than farm:f.max_result, which is 100000");
}
END_TEST

static int careless(struct tine_task *t, void *state)
{
	size = MAX_RESULT + 1;
	answer_size(t, state);
	return 0;
}

static int failing(struct tine_task *t, void *state)
{
	tine_task_answer(t, "result", 6);
	return tine_task_fail(t, "no picture\n%d\x7f", 7);
}

static int positive(struct tine_task *t, void *state)
{
	return 7;
}

/* As other libraries number their errors: the primary would take it for an offence. */
static int beyond_errno(struct tine_task *t, void *state)
{
	return -0x7200;
}

START_TEST(test_failures)
{
	ck_assert_int_eq(run(careless), TINE_E_TOO_LARGE);
	task_begin(&task, "", 0, 0);
	ck_assert_int_eq(run(failing), -EINVAL);
	ck_assert_uint_eq(task.text_len, 13);
	ck_assert_mem_eq(task.text, "no picture 7 ", 13); /* a line */
	task_begin(&task, "", 0, 0);
	ck_assert_uint_eq(task.text_len, 0);
	ck_assert_int_eq(run(positive), -EINVAL);
	ck_assert_ptr_nonnull(strstr(task.text, "the function fn returned 7"));
	task_begin(&task, "", 0, 0);
	ck_assert_int_eq(run(beyond_errno), -EINVAL);
	ck_assert_ptr_nonnull(strstr(task.text, "the function fn returned -29184"));
}
END_TEST

static int verbose(struct tine_task *t, void *state)
{
	char text[3000];

	memset(text, 'x', sizeof(text));
	tine_task_fail(t, "%.*s", (int)sizeof(text), text);
	return -EIO;
}

START_TEST(test_long_text)
{
	ck_assert_int_eq(run(verbose), -EIO);
	ck_assert_uint_eq(task.text_len, TASK_TEXT_MAX);
}
END_TEST

/* --- which modules are for a farm --- */

static const struct tine_task_function good[] = {{"a", look}, {"b", look}, {NULL, NULL}},
				       none[] = {{NULL, NULL}},
				       twice[] = {{"a", look}, {"b", look}, {"a", look},
					       {NULL, NULL}},
				       unnamed[] = {{"", look}, {NULL, NULL}},
				       empty[] = {{"a", NULL}, {NULL, NULL}};
static struct tine_task_function longest[] = {{NULL, look}, {NULL, NULL}};

static int check_tasks(const struct tine_task_function *tasks, char error[MODULE_ERROR_MAX])
{
	static struct config c;
	static const struct conf_module conf = {
		.kind = "farm", .name = "f", .line = 5, .path_line = 6};
	const struct tine_module d = {.tasks = tasks};
	const struct tine_worker m = {.config = {.config = &c, .conf = &conf}, .desc = &d};

	c.path = (char *)"t.ini";
	*error = '\0';
	return module_check_tasks(&m, error);
}

START_TEST(test_tables)
{
	static const struct {
		const struct tine_task_function *tasks;
		const char *error;
	} bad[] = {
		{NULL, "t.ini:6: farm:f.module: the module exports no task functions"},
		{none, "t.ini:6: farm:f.module: the module exports no task functions"},
		{twice, "t.ini:6: farm:f.module: there are two task functions of the name a"},
		{empty, "t.ini:6: farm:f.module: there is no code for its task function a"},
	};
	char error[MODULE_ERROR_MAX], name[65];

	ck_assert_int_eq(check_tasks(good, error), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ck_assert_int_eq(check_tasks(bad[i].tasks, error), -EINVAL);
		ck_assert_str_eq(error, bad[i].error);
	}
	ck_assert_int_eq(check_tasks(unnamed, error), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[63] = '\0';
	longest[0].name = name;
	ck_assert_int_eq(check_tasks(longest, error), 0);
	name[63] = 'n';
	name[64] = '\0';
	ck_assert_int_eq(check_tasks(longest, error), -EINVAL);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_argument);
	tcase_add_test(tc, test_answer);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_failures);
	tcase_add_test(tc, test_long_text);
	tcase_add_test(tc, test_tables);
}

int main(void)
{
	return run_tests("task", add);
}
