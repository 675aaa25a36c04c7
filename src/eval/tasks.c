/* The table of tasks. */
#include "eval/task.h"

#define FM_EVAL_TASK(name) extern const fm_eval_task fm_eval_task_##name;
#include "eval/tasks.def"
#undef FM_EVAL_TASK

static const fm_eval_task *const tasks[] = {
#define FM_EVAL_TASK(name) &fm_eval_task_##name,
#include "eval/tasks.def"
#undef FM_EVAL_TASK
};

const fm_eval_task *fm_eval_task_at(size_t i) {
    return i < FM_ARRAY_LEN(tasks) ? tasks[i] : NULL;
}

const char *fm_eval_task_name(int i, const char **help) {
    const fm_eval_task *t = i < 0 ? NULL : fm_eval_task_at((size_t)i);
    if (t && help) {
        *help = t->help;
    }
    return t ? t->name : NULL;
}
