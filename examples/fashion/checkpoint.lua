-- SPDX-License-Identifier: MIT
--- A run that was interrupted, on disk: what --resume needs to go on as if nothing had been.
--
--   <out>/checkpoint                       text: options, position, curves; names the others
--   <out>/checkpoint-<n>.safetensors       weights after n updates
--   <out>/checkpoint-<n>.states            the optimizer's states
--
-- The text is written last, and appears whole or not at all; so whatever cuts saving short,
-- the checkpoint before it stays valid.

local files = require 'fashion.files'
local neap = require 'neap'

local M = {}

local FIRST_LINE = 'neap fashion_mnist checkpoint 1'

---@class Checkpoint
---@field options table<string, string|number> of the run
---@field epoch integer that was going on
---@field batch integer done in it
---@field updates integer done in all
---@field lines string[] the history's

local function file_names(updates)
  local base = ('checkpoint-%d'):format(updates)
  return base .. '.safetensors', base .. '.states'
end

--- Saves a run and removes the checkpoint that was there before.
---@param folder string
---@param c Checkpoint
---@param kv neap.Store
---@param weights table<string, neap.Array>
---@return string path of the text
function M.save(folder, c, kv, weights)
  local path = folder .. '/checkpoint'
  local before = M.read(path)
  local weights_file, states_file = file_names(c.updates)
  neap.nd.save(folder .. '/' .. weights_file, weights)
  kv:save_optimizer_states(folder .. '/' .. states_file)
  local lines = {}
  for name, value in pairs(c.options) do
    lines[#lines + 1] = ('option %s %s'):format(name, value)
  end
  table.sort(lines)
  table.insert(lines, 1, FIRST_LINE)
  for _, name in ipairs { 'epoch', 'batch', 'updates' } do
    lines[#lines + 1] = ('at %s %d'):format(name, c[name])
  end
  for _, line in ipairs(c.lines) do lines[#lines + 1] = line end
  assert(files.write(path, table.concat(lines, '\n') .. '\n'))
  if before and before.updates ~= c.updates then
    for _, name in ipairs { file_names(before.updates) } do os.remove(folder .. '/' .. name) end
  end
  return path
end

--- Reads the text of a checkpoint.
---@param path string
---@return Checkpoint?, string? why
function M.read(path)
  local text, why = files.read(path)
  if not text then return nil, why end
  local c = { options = {}, lines = {} }
  local first = true
  for line in text:gmatch('([^\n]*)\n') do
    if first then
      if line ~= FIRST_LINE then break end
      first = false
    else
      local name, value = line:match('^option (%S+) (.+)$')
      local place, number = line:match('^at (%l+) (%d+)$')
      if name then
        c.options[name] = value
      elseif place then
        c[place] = tonumber(number)
      else
        c.lines[#c.lines + 1] = line
      end
    end
  end
  if first then return nil, path .. ': is no checkpoint of this program' end
  if not (c.epoch and c.batch and c.updates) then return nil, path .. ': is damaged' end
  return c
end

--- The files beside a checkpoint's text.
---@param path string of the text
---@param c Checkpoint
---@return string weights, string states
function M.files(path, c)
  local folder = path:match('^(.*/)') or ''
  local weights, states = file_names(c.updates)
  return folder .. weights, folder .. states
end

return M
