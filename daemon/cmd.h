/* The offline subcommands: the service's pipeline without a server. Each takes the arguments
 * behind its name and returns the process's exit code. */
#ifndef CMD_H
#define CMD_H

#include "quantcore/base/qd_arena.h"

enum { CMD_OK = 0, CMD_FAILED = 1, CMD_USAGE = 2, CMD_INPUT = 3 };

struct qc_external;

int cmd_quantize(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_statistics(int argc, char **argv);

/* cmd_file.c */
/* Is --help or -h among the arguments? */
bool cmd_asks_help(int argc, char **argv);
/* Exit code of an error: what the input is to blame for is CMD_INPUT. Prints the message. */
int cmd_report_error(const char *command, enum qd_code code, const struct qd_error *err);
/* A whole file into the arena; at most 2 GiB (protobuf's own limit). */
QD_MUST_CHECK enum qd_code cmd_read_file(const char *path, struct qd_arena *arena,
                                         struct qd_bytes *ret, struct qd_error *err);
/* The same of a file in an open folder; no symbolic link, nothing that blocks. */
QD_MUST_CHECK enum qd_code cmd_read_beside(int folder, const char *name, struct qd_arena *arena,
                                           struct qd_bytes *ret, struct qd_error *err);
/* No half-written result is ever seen under its name: first all files of a folder are written
 * as "path.tmp" and reach the disk (on failure the file is removed) … */
QD_MUST_CHECK enum qd_code cmd_write_tmp(const char *path, const void *data, size_t size,
                                         struct qd_error *err);
/* … then n files of the folder get their names, unless one of the names is a folder's. On failure
 * every "….tmp" that is left is removed. */
QD_MUST_CHECK enum qd_code cmd_publish(const char *folder, const char *const *names, int n,
                                       struct qd_error *err);
/* Remove "folder/name.tmp" of n names. */
void cmd_discard(const char *folder, const char *const *names, int n);
void cmd_sha256_bytes(const void *data, size_t size, uint8_t ret[32]);
/* Lower-case hex SHA-256, 64 digits and a NUL. */
void cmd_sha256(const void *data, size_t size, char ret_hex[65]);

/* cmd_model.c */
/* A model and the files that its initializers have their data in: plain names in the model's own
 * folder. Bytes go into the arena, the files' names into `names`. */
QD_MUST_CHECK enum qd_code cmd_read_model(const char *path, struct qd_arena *arena,
                                          struct qd_bytes *ret_model, struct qd_arena *names,
                                          struct qc_external *ret_external, struct qd_error *err);
/* What statistics know a model by: of the model's bytes alone when it has no such file. */
void cmd_sha256_model(struct qd_bytes model, const struct qc_external *external, uint8_t ret[32]);

#endif
