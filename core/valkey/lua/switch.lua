-- Change the switches of a task from ``before``, which is the value that the caller knew, empty for
-- none. Answer with the value that is there if that is another. "*": from any older version.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local task, before, after, version = arg(), arg(), arg(), number()
local have = call('HGET', P .. 'hold', task) or ''
if before == '*' then
  if have ~= '' and (cjson.decode(have).version or 0) > version then
    return have
  end
elseif have ~= before then
  return have
end
call('HDEL', P .. 'hold', '')
if after == '' then
  call('HDEL', P .. 'hold', task)
else
  call('HSET', P .. 'hold', task, after)
end
wake({[task] = true}, '')
return after
