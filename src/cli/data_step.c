/* fathom data STEP: one command for every row of the table of steps. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/data_job.h"

static fm_data_job *job; /* of the step that was named last; a process runs one command, a recipe looks up several */
static char name[64];
static cli_command command;
static fm_data_step_info info;

static const fm_option *options(void) {
    return fm_data_job_options(job);
}

static int run(const cli_command *cmd, int argc, char **argv) {
    int rc = cli_inputs(cmd, argc, argv, fm_data_job_object(job));
    if (rc < 0) {
        rc = cli_data_job(job);
    }
    fm_data_job_free(job);
    job = NULL;
    return rc;
}

const cli_command *cli_data_step(const char *word) {
    info.size = sizeof info;
    for (size_t i = 0; fm_data_step_at(&info, i); i++) {
        if (strcmp(info.name, word) != 0) {
            continue;
        }
        fm_data_job_free(job);
        job = NULL;
        if (fm_data_job_step(&job, word) != FM_OK) {
            return NULL;
        }
        snprintf(name, sizeof name, "data %s", word);
        command = (cli_command){
            .name = name,
            .args = "-i IN... -o OUT [options]",
            .summary = info.help,
            .about = info.about,
            .examples = info.examples,
            .options = options,
            .run = run,
        };
        return &command;
    }
    return NULL;
}
