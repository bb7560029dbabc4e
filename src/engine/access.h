/* access.h: the little that generation and its neighbours need to see of the two opaque nouns.
 * model.c and session.c define these; nothing else of their insides leaves them. */
#ifndef NM_ENGINE_ACCESS_H
#define NM_ENGINE_ACCESS_H

#include "base/alloc.h"

const npumoe_allocator *nm_model_allocator(const npumoe_model *model);
npumoe_model *nm_session_model(const npumoe_session *session);

#endif
