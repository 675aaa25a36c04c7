/* fathom data augment-images */
#include "cli/cli.h"
#include "cli/config.h"
#include "fathom/images.h"

static int run(const cli_command *cmd, int argc, char **argv) {
    fm_images_config *c = NULL;
    fm_images_report r = {.size = sizeof r};
    int n = 0;
    char *none[64];
    fm_status s = fm_images_config_new(&c);
    if (s != FM_OK) {
        return cli_fail(s);
    }
    int rc = argc > 64 ? cli_usage(cmd, "too many arguments") : cli_parse(cmd, argc, argv, c, none, &n, 0, 0);
    if (rc < 0) {
        s = fm_images_run(&r, c);
        rc = s == FM_OK ? 0 : cli_fail(s);
        if (s == FM_OK && cli_flags.json) {
            printf("{\"pictures\":%lld,\"refused\":%lld,\"files\":%lld,\"seconds\":%.3f}\n", (long long)r.n_pictures,
                   (long long)r.n_bad, (long long)r.n_written, r.seconds);
        } else if (s == FM_OK) {
            char b[32];
            printf("%lld pictures, %lld refused: %lld files in %s\n", (long long)r.n_pictures, (long long)r.n_bad,
                   (long long)r.n_written, cli_seconds(b, sizeof b, r.seconds));
        }
    }
    fm_images_config_free(c);
    return rc;
}

const cli_command cli_cmd_data_augment_images = {
    .name = "data augment-images",
    .args = "-i DIR -o DIR [options]",
    .summary = "Changed copies of pictures: cut out, mirrored, turned, lighter or darker",
    .about = "Subfolders are classes, as is what metadata.jsonl says; copies keep both. Needs libvips at run time.",
    .examples = "fathom data augment-images -i pets -o more --copies 4\n"
                "fathom data augment-images -i scans -o more --crop 1 --flip none --rotate 3 --brightness 0.4",
    .options = fm_images_options,
    .run = run,
};
