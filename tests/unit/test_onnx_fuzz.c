/* The fuzz target over its corpus, and over mutants of it from a fixed seed. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define LLVMFuzzerTestOneInput fuzz_onnx_one
#include "tests/fuzz/fuzz_onnx.c"

#define CORPUS "tests/fuzz/corpus/onnx"

enum { MAX_SIZE = 4096, MUTANTS = 300 };

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13; /* xorshift64 */
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* One edit in place; the size may shrink by one. */
static size_t mutate(uint8_t *data, size_t size)
{
    size_t at = (size_t)(next_random() % size), from = (size_t)(next_random() % size);
    switch (next_random() % 4) {
    case 0:
        data[at] ^= (uint8_t)(1 << next_random() % 8);
        break;
    case 1:
        data[at] = (uint8_t)next_random();
        break;
    case 2:
        data[at] = data[from];
        break;
    default:
        memmove(data + at, data + at + 1, size - at - 1);
        size--;
    }
    return size;
}

static size_t read_corpus(const char *name, uint8_t *data)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", CORPUS, name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    size_t size = fread(data, 1, MAX_SIZE, f);
    fclose(f);
    return size;
}

START_TEST(fuzz__corpus_and_mutants__no_crash)
{
    int files = 0;
    DIR *dir = opendir(CORPUS);
    ck_assert_msg(dir != NULL, "%s is missing: run the tests in the repository root", CORPUS);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        uint8_t data[MAX_SIZE];
        size_t size = read_corpus(e->d_name, data);
        ck_assert_int_eq(fuzz_onnx_one(data, size), 0);
        state = UINT64_C(0x9e3779b97f4a7c15);
        for (int i = 0; i < MUTANTS; i++) {
            uint8_t *copy = malloc(size); /* exact, for the sanitizer */
            memcpy(copy, data, size);
            size_t left = size;
            for (int k = 0; k <= i % 4; k++) {
                left = mutate(copy, left);
            }
            fuzz_onnx_one(copy, left);
            free(copy);
        }
        files++;
    }
    closedir(dir);
    ck_assert_int_ge(files, 9);
}
END_TEST

Suite *test_onnx_fuzz_suite(void)
{
    Suite *s = suite_create("onnx_fuzz");
    TCase *t = tcase_create("corpus");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, fuzz__corpus_and_mutants__no_crash);
    suite_add_tcase(s, t);
    return s;
}
