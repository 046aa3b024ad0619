/* Runs a fuzz target over the files named on the command line, so that its corpus is a test
 * that needs no fuzzer: `replay_<target> tests/fuzz/corpus/<target>/` and any number of files. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = 0;
    size_t capacity = 1 << 16;
    uint8_t *data = malloc(capacity);
    while (data != NULL) {
        size += fread(data + size, 1, capacity - size, file);
        if (size < capacity) {
            break;
        }
        capacity *= 2;
        uint8_t *grown = realloc(data, capacity);
        if (grown == NULL) {
            free(data);
        }
        data = grown;
    }
    fclose(file);
    /* An exact copy: sanitizers see the first byte read past the end. */
    uint8_t *exact = data != NULL ? malloc(size > 0 ? size : 1) : NULL;
    if (exact == NULL) {
        fprintf(stderr, "%s: no memory\n", path);
        free(data);
        return 1;
    }
    memcpy(exact, data, size);
    free(data);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

static int replay_folder(const char *path, int *files)
{
    struct dirent **entries;
    int failed = 0;
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            failed |= replay_file(name);
            ++*files;
        }
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    int files = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
            failed |= replay_folder(argv[i], &files);
        } else {
            failed |= replay_file(argv[i]);
            files++;
        }
    }
    if (files == 0) {
        fprintf(stderr, "%s: no files to replay\n", argv[0]);
        return 2;
    }
    printf("%s: %d files\n", argv[0], files);
    return failed;
}
