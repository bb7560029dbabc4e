/* session.h: what tests and tools inside the library may do with a session beyond npumoe.h. */
#ifndef NM_ENGINE_SESSION_H
#define NM_ENGINE_SESSION_H

#include "engine/forward.h"

/* Observers of the evaluation (copied); a zeroed struct removes them. With observers the last layer
 * computes all rows of a chunk, so that they see every token. */
void nm_session_set_hooks(npumoe_session *session, const nm_hooks *hooks);

/* Forgets all tokens: the next evaluation computes every position. */
void nm_session_reset(npumoe_session *session);

#endif
