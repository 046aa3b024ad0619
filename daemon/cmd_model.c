/* A model's file, and the files beside it that its initializers have their data in. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cmd.h"
#include "quantcore/quantcore.h"
#include "worker/worker_external.h"

/* A location leads nowhere but into the model's own folder. */
static enum qd_code check_location(const char *name, struct qd_error *err)
{
    bool plain = name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
                 strcmp(name, "..") != 0;
    return plain ? QD_OK
                 : qd_fail_on(err, QD_INVALID, name,
                              "the model's data are in '%.200s', which is no plain file name: "
                              "they must lie in the model's folder", name);
}

static enum qd_code open_folder(const char *path, struct qd_arena *arena, int *ret,
                                struct qd_error *err)
{
    const char *slash = strrchr(path, '/'), *folder = NULL;
    QD_TRY(slash == NULL ? qd_arena_string(arena, ".", 1, &folder, err)
                         : qd_arena_string(arena, path, (size_t)(slash - path) + 1, &folder, err));
    *ret = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret >= 0 ? QD_OK : qd_fail_errno(err, errno, "open the folder '%s'", folder);
}

enum qd_code cmd_read_model(const char *path, struct qd_arena *arena, struct qd_bytes *ret_model,
                            struct qd_arena *names, struct qc_external *ret_external,
                            struct qd_error *err)
{
    int folder = -1;
    struct qd_bytes model;
    struct qc_external external = {.n = 0};
    QD_TRY(cmd_read_file(path, arena, &model, err));
    QD_TRY(qc_onnx_external_names(model, names, &external, err));
    enum qd_code code = external.n > 0 ? open_folder(path, names, &folder, err) : QD_OK;
    for (int i = 0; i < external.n && code == QD_OK; i++) {
        struct qc_external_file *f = &external.files[i];
        code = check_location(f->name, err);
        code = code == QD_OK ? cmd_read_beside(folder, f->name, arena, &f->bytes, err) : code;
        if (code != QD_OK) {
            qd_wrap(err, code, "%s: external data", path);
        }
    }
    if (folder >= 0) {
        (void)close(folder);
    }
    if (code == QD_OK) {
        *ret_model = model;
        *ret_external = external;
    }
    return code;
}

void cmd_sha256_model(struct qd_bytes model, const struct qc_external *external, uint8_t ret[32])
{
    struct worker_external_digest files[QC_EXTERNAL_MAX];
    for (int i = 0; i < external->n; i++) {
        files[i].name = external->files[i].name;
        cmd_sha256_bytes(external->files[i].bytes.data, external->files[i].bytes.size,
                         files[i].sha256);
    }
    cmd_sha256_bytes(model.data, model.size, ret);
    worker_external_identify(files, (size_t)external->n, ret);
}
