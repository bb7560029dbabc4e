/* trace_priv.h: the numbers of a trace file, for its reader and writer. */
#ifndef NM_MOE_TRACE_PRIV_H
#define NM_MOE_TRACE_PRIV_H

#include <stdint.h>

#define NM_TRACE_MAGIC       "NPUTRACE"
#define NM_TRACE_BLOCK_MAGIC "BLCK"
#define NM_TRACE_END_MAGIC   "DONE"
#define NM_TRACE_VERSION     1u
#define NM_TRACE_HEADER      64 /* bytes */
#define NM_TRACE_BLOCK       32 /* bytes of a block's header, and of the end */
#define NM_TRACE_PAIR_BYTES  4  /* id and weight at most */

static inline uint32_t nm_trace_id_bytes(uint32_t n_expert)
{
    return n_expert <= 256 ? 1 : 2;
}

static inline void nm_trace_put_u32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static inline void nm_trace_put_u64(unsigned char *p, uint64_t v)
{
    nm_trace_put_u32(p, (uint32_t)v);
    nm_trace_put_u32(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t nm_trace_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t nm_trace_u64(const unsigned char *p)
{
    return nm_trace_u32(p) | (uint64_t)nm_trace_u32(p + 4) << 32;
}

#endif
