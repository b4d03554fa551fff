-- SPDX-License-Identifier: MIT
-- A worker of a job that the installed program runs, with the installed files alone.
local neap = require 'neap'
assert(package.searchpath('neap', package.path):find('install-spec', 1, true))
local kv = neap.kv.create 'dist_sync'
kv:init('w', neap.nd.ones(3))
if kv.rank == 0 then kv:set_optimizer(neap.optim.sgd { learning_rate = 1 }) end
kv:barrier()
kv:push('w', neap.nd.ones(3))
local out = neap.nd.zeros(3)
kv:pull('w', out)
assert(out:totable()[3] == 1 - kv.num_workers)
kv:close()
