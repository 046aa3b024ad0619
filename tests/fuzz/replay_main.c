/* Runs a fuzz target over its corpus and over mutants of it from a fixed seed, so that the corpus
 * is a test that needs no fuzzer: `fuzz_<target> [-m MUTANTS] FILE|FOLDER…`. MUTANTS of each file
 * (default 0); a file is also the way to see again what a fuzzer has found. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FILE ((size_t)1 << 20)

struct replay {
    int mutants, n_files;
    uint64_t state; /* of the generator; begins anew for each file */
    uint8_t data[MAX_FILE];
};

static uint64_t next_random(struct replay *r)
{
    r->state ^= r->state << 13; /* xorshift64 */
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state;
}

/* One edit in place: a bit, a byte, a character that texts are made of, a copied or a lost byte,
 * or the end cut off. */
static size_t mutate(struct replay *r, uint8_t *data, size_t size)
{
    static const char likely[] = "{}[]\",:;=%/-0199.e\\\r\n ";
    if (size == 0) {
        return 0;
    }
    size_t at = (size_t)(next_random(r) % size), from = (size_t)(next_random(r) % size);
    switch (next_random(r) % 8) {
    case 0:
    case 1:
        data[at] ^= (uint8_t)(1u << next_random(r) % 8);
        break;
    case 2:
        data[at] = (uint8_t)next_random(r);
        break;
    case 3:
    case 4:
        data[at] = (uint8_t)likely[next_random(r) % (sizeof(likely) - 1)];
        break;
    case 5:
        data[at] = data[from];
        break;
    case 6:
        memmove(data + at, data + at + 1, size - at - 1);
        return size - 1;
    default:
        return from;
    }
    return size;
}

/* In memory of exactly its size: sanitizers see the first byte read past the end. */
static bool run_one(struct replay *r, size_t size, int edits)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        return false;
    }
    memcpy(exact, r->data, size);
    for (int i = 0; i < edits; i++) {
        size = mutate(r, exact, size);
    }
    if (edits > 0) {
        uint8_t *shorter = realloc(exact, size > 0 ? size : 1);
        exact = shorter != NULL ? shorter : exact;
    }
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return true;
}

static bool replay_file(struct replay *r, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    size_t size = fread(r->data, 1, MAX_FILE, file);
    bool whole = fgetc(file) == EOF && ferror(file) == 0;
    fclose(file);
    if (!whole) {
        fprintf(stderr, "%s: cannot be read, or has more than %zu bytes\n", path, MAX_FILE);
        return false;
    }
    r->state = UINT64_C(0x9e3779b97f4a7c15);
    r->n_files++;
    bool good = run_one(r, size, 0);
    for (int i = 0; good && i < r->mutants; i++) {
        good = run_one(r, size, 1 + i % 4);
    }
    return good;
}

static bool replay_folder(struct replay *r, const char *path)
{
    struct dirent **entries;
    bool good = true;
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        perror(path);
        return false;
    }
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            good &= replay_file(r, name);
        }
        free(entries[i]);
    }
    free(entries);
    return good;
}

int main(int argc, char **argv)
{
    static struct replay r;
    bool good = true;
    int i = 1;
    if (argc > 2 && strcmp(argv[1], "-m") == 0) {
        r.mutants = atoi(argv[2]);
        i = 3;
    }
    for (; i < argc; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        good &= folder ? replay_folder(&r, argv[i]) : replay_file(&r, argv[i]);
    }
    if (r.n_files == 0) {
        fprintf(stderr, "%s: no files to replay\n", argv[0]);
        return 2;
    }
    printf("%s: %d files, %d mutants of each\n", argv[0], r.n_files, r.mutants);
    return good ? 0 : 1;
}
