-- SPDX-License-Identifier: MIT
--- Random arrays: counter-based, so the same for one neap.seed() on any number of threads.

local C = require 'neap.ffi'
local array = require 'neap.array'
local raise = require 'neap.raise'

--- In [low, high); and by Box and Muller. Float dtypes only.
---@class neap.nd.random
---@field uniform fun(low: number, high: number, shape: integer[], opts?: table): neap.Array
---@field normal fun(mean: number, deviation: number, shape: integer[], opts?: table): neap.Array
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

define('uniform', C.neap_array_uniform, 'low', 'high')
define('normal', C.neap_array_normal, 'mean', 'deviation')

return M
