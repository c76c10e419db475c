/* Owns a stand-in for NVIDIA's compiler, for tests that aren't about machine code: what it compiles is
   a name, and the stand-in driver runs the kernel of that name. */
#include <stdlib.h>
#include <string.h>

static const char code[] = "\177ELF, as far as the stand-in driver looks";

int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers,
                       const char *const *texts, const char *const *names)
{
    (void)name, (void)headers, (void)texts, (void)names;
    if (!strstr(source, "KERNEL apply_affine(")) return 1;
    return *program = malloc(1), 0;
}
int nvrtcCompileProgram(void *program, int count, const char *const *options)
{
    (void)program;
    return count < 1 || strcmp(options[0], "--gpu-architecture=sm_90") != 0;
}
int nvrtcGetCUBINSize(void *program, size_t *bytes) { (void)program; return *bytes = sizeof code, 0; }
int nvrtcGetCUBIN(void *program, char *to) { (void)program; return memcpy(to, code, sizeof code), 0; }
int nvrtcGetProgramLogSize(void *program, size_t *bytes) { (void)program; return *bytes = 1, 0; }
int nvrtcGetProgramLog(void *program, char *to) { (void)program; return *to = 0, 0; }
int nvrtcDestroyProgram(void **program) { free(*program); return 0; }
