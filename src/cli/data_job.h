/* What the commands about data jobs share. */
#ifndef FM_CLI_DATA_JOB_H
#define FM_CLI_DATA_JOB_H

#include "cli/cli.h"
#include "fathom/data.h"

/* Runs the job and reports; returns the exit code. */
int cli_data_job(fm_data_job *job);
/* Options of a job without steps. */
const fm_option *cli_data_options(void);
/* `fathom data NAME` for a step; NULL when there is no such step. */
const cli_command *cli_data_step(const char *word);

#endif
