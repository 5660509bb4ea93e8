/* What jemalloc reads before its environment variable, _RJEM_MALLOC_CONF. One arena: another one would be
   some 4 MiB more with 64 connections. Short caches of each thread: there may be forty. What a mail frees the
   next ones use: it goes back to the system after 100 ms, while mail comes. */
const char *_rjem_malloc_conf = "narenas:1,dirty_decay_ms:100,muzzy_decay_ms:0,"
                                "lg_tcache_max:13,lg_tcache_nslots_mul:0,tcache_nslots_small_max:8,"
                                "tcache_nslots_small_min:4,tcache_nslots_large:2";
