/* SPDX-License-Identifier: MIT */
/* host_static_test.c - a program that has libneap and libneap_host linked into it: the Lua of
 * scripts reaches the program's own functions. */
#include "spec/host/host.h"

int main(void) {
  neap_context *context = make_context();
  neap_host *host = make_host(NULL);
  opened o = open_source(host, context,
                         "return { name = 'rule', update = function(w, g) return w - g end }");
  FINE(o, o.status);
  FINE(o, bind_key(&o, "w"));
  neap_key key = {"w", 1, 0};
  CHECK(neap_optimizer_bound(o.optimizer, &key, NEAP_DENSE));
  close_opened(&o);
  neap_host_close(host);
  neap_context_close(context);
  return 0;
}
