/* sys.h: what kind of machine this is, for reports. Memory limits are engine/memory.h's, CPU counts
 * and features are threads.h's and kernels/kern.h's. */
#ifndef NM_BASE_SYS_H
#define NM_BASE_SYS_H

#include <stddef.h>
#include <stdint.h>

/* The CPU's name as its maker gives it ("" if unknown); always terminated. */
void nm_sys_cpu_model(char *buf, size_t buf_bytes);
/* CPUs that are online, allowed or not. */
int nm_sys_cpus_online(void);
uint64_t nm_sys_page_bytes(void);
/* The size of a transparent huge page and how the kernel gives them out ("always", "madvise",
 * "never"); 0 and "" where there are none. */
uint64_t nm_sys_huge_page_bytes(char *mode, size_t mode_bytes);
/* Asks for huge pages behind a large buffer, where the system has them to give: columns of a matrix
 * with thousands of rows would else miss the TLB at every row. A hint; nothing depends on it. */
void nm_sys_advise_huge(void *p, size_t bytes);
/* Makes sure that the process has the pages of this memory, which is its own or a file's, so that nobody waits for
 * them later. What is there stays as it is; nobody else may write to it meanwhile. */
void nm_sys_touch(void *p, size_t bytes);
void nm_sys_touch_read_only(const void *p, size_t bytes);
/* The size of a core's data cache of that level (1..3; 3 may be shared); 0 = unknown or absent. */
uint64_t nm_sys_cache_bytes(int level);
/* "Linux 6.1.0 x86_64" */
void nm_sys_os(char *buf, size_t buf_bytes);

#endif
