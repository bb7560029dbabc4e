/* replay.c: npumoe_model_use_routes(): a model whose routing is recorded (moe/routes.h). */
#include "engine/model.h"

npumoe_status npumoe_model_use_routes(npumoe_model *model, const char *path, npumoe_error *err)
{
    nm_routes *fresh = NULL;
    if (model == NULL)
        return nm_err_set(err, NPUMOE_EINVAL, "npumoe_model_use_routes: model must not be NULL");
    if (model->vocab_only)
        return nm_err_set(err, NPUMOE_EINVAL, "the model was loaded with vocab_only");
    if (atomic_load(&model->session_bytes) > 0)
        return nm_err_set(err, NPUMOE_EINVAL, "sessions of the model are still alive");
    if (path)
        NM_TRY(nm_routes_load(model->allocator, path, &model->config, &fresh, err));
    nm_routes_free(&model->routes);
    model->routes = fresh;
    return NPUMOE_OK;
}
