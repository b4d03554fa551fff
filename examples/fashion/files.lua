-- SPDX-License-Identifier: MIT
--- Folders and text files, as the example needs them. What can fail gives nil and why.

local stat = require 'posix.sys.stat'

local M = {}

--- Makes a folder and what is missing above it.
---@param path string
---@return true?, string?
function M.make_folder(path)
  local sofar = path:sub(1, 1) == '/' and '/' or ''
  for part in path:gmatch('[^/]+') do
    sofar = sofar .. part
    local is = stat.stat(sofar)
    if not is then
      local ok, why = stat.mkdir(sofar)
      if not ok then return nil, why end
    elseif stat.S_ISDIR(is.st_mode) == 0 then
      return nil, sofar .. ': is a file where a folder is wanted'
    end
    sofar = sofar .. '/'
  end
  return true
end

--- Writes a file that appears whole or not at all.
---@return true?, string?
function M.write(path, text)
  local new = path .. '.new'
  local file, why = io.open(new, 'w')
  if not file then return nil, why end
  local ok
  ok, why = file:write(text)
  if ok then ok, why = file:close() else file:close() end
  if ok then ok, why = os.rename(new, path) end
  if not ok then
    os.remove(new)
    return nil, path .. ': ' .. why
  end
  return true
end

---@return string?, string?
function M.read(path)
  local file, why = io.open(path, 'r')
  if not file then return nil, why end
  local text
  text, why = file:read('*a') -- nil for a folder
  file:close()
  if not text then return nil, path .. ': ' .. why end
  return text
end

return M
