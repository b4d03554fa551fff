-- SPDX-License-Identifier: MIT
--- Random arrays: counter-based, so the same for one neap.seed() on any number of threads.

local C = require 'neap.ffi'
local array = require 'neap.array'
local raise = require 'neap.raise'

local M = {}

local function define(name, call, first, second)
  M[name] = function(a, b, shape, opts)
    if type(a) ~= 'number' or type(b) ~= 'number' then
      raise.raise('random.%s: %s and %s are numbers, not %s and %s', name, first, second,
        raise.describe(a), raise.describe(b))
    end
    local where = 'random.' .. name
    local id, device_type, device_id = array.read_options(opts, where)
    local ndim, dimensions = array.read_shape(shape, where)
    local result = array.create(id, ndim, dimensions, device_type, device_id)
    raise.check(call(result._h, a, b))
    return result
  end
end

-- uniform(low, high, shape, opts): in [low, high). normal(mean, deviation, shape, opts): by
-- Box and Muller. Float dtypes only.
define('uniform', C.neap_array_uniform, 'low', 'high')
define('normal', C.neap_array_normal, 'mean', 'deviation')

return M
