/* glibc's malloc makes eight arenas a processor, each with free memory of its own. One a processor and one
   more is a tenth less memory with 64 connections and no more processor time to be seen.
   Runs before main, while there is one thread; what the operator sets in GLIBC_TUNABLES stands. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void limit_arenas(void)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    if (tunables && strstr(tunables, "glibc.malloc.arena_"))
        return;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, processors < 1 ? 2 : (int)processors + 1);
}
