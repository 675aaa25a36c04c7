/* Commands that take CONFIG.yaml and key=value overrides. */
#ifndef FM_CLI_CONFIG_H
#define FM_CLI_CONFIG_H

#include "cli/cli.h"

/* Fills `obj` (defaults already set) from argv: an optional first word naming a YAML file, then options. Options win
 * over the file. Returns -1 to go on, or an exit code. `scratch` is another object of the same type that the first pass
 * may fill. */
int cli_config(const cli_command *cmd, int argc, char **argv, void *obj, void *scratch, bool needs_file);

/* Parses options into obj; words that are no options are added to its list key `input`. Returns -1 to go on, or an exit
 * code. */
int cli_inputs(const cli_command *cmd, int argc, char **argv, void *obj);

#endif
