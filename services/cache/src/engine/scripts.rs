//! What Redis does in one step each.
//!
//! A value is a hash: `v` the value, `t<tag>` the mark of each of its tags. A tag is a hash too: the
//! field without a name is its mark, `k<key>` each key that has it. A value counts only while the
//! marks of all its tags are those it was stored with. So a tag that Redis evicts, or that is removed
//! before its values are, takes its values with it: what may be stale is absent, never served.
//!
//! All keys share one hash slot, so the scripts work on a cluster too.

use deadpool_redis::redis::Script;

/// Begins every key of this cache; the braces keep all of them in one slot.
pub(super) const VALUES: &str = "streamgate:{cache}:v:";
pub(super) const TAGS: &str = "streamgate:{cache}:t:";
pub(super) const ALL: &str = "streamgate:{cache}:";
/// Where instances tell each other what stops being true.
pub(super) const CHANNEL: &str = "streamgate:{cache}:news";

/// `KEYS[1]` the value. Gives the value and its time left, or nothing.
const GET: &str = r"
local fields = redis.call('HGETALL', KEYS[1])
local value = false
for i = 1, #fields, 2 do
  local name = fields[i]
  if name == 'v' then
    value = fields[i + 1]
  elseif redis.call('HGET', ARGV[1] .. string.sub(name, 2), '') ~= fields[i + 1] then
    redis.call('UNLINK', KEYS[1])
    return false
  end
end
if not value then return false end
return {value, redis.call('PTTL', KEYS[1])}
";

/// Takes the value's key out of its tags; a part of other scripts.
const UNTAG: &str = r"
local function untag(value, key)
  for _, name in ipairs(redis.call('HKEYS', value)) do
    if name ~= 'v' then redis.call('HDEL', ARGV[1] .. string.sub(name, 2), 'k' .. key) end
  end
end
";

/// `KEYS[1]` the value; the key, the value, milliseconds to live (0: no end), a fresh mark, the values'
/// prefix, then the tags. A tag lives as long as the longest-lived value that has it; two of its keys
/// are looked at each time and forgotten when their values are gone, so that it does not grow for ever.
const SET: &str = r"
untag(KEYS[1], ARGV[2])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'v', ARGV[3])
local ttl = tonumber(ARGV[4])
for i = 7, #ARGV do
  local tag = ARGV[1] .. ARGV[i]
  local left = redis.call('PTTL', tag)
  redis.call('HSETNX', tag, '', ARGV[5])
  for _, old in ipairs(redis.call('HRANDFIELD', tag, 2)) do
    if old ~= '' and redis.call('EXISTS', ARGV[6] .. string.sub(old, 2)) == 0 then redis.call('HDEL', tag, old) end
  end
  redis.call('HSET', tag, 'k' .. ARGV[2], '')
  redis.call('HSET', KEYS[1], 't' .. ARGV[i], redis.call('HGET', tag, ''))
  if ttl == 0 then
    redis.call('PERSIST', tag)
  elseif left == -2 or (left >= 0 and left < ttl) then
    redis.call('PEXPIRE', tag, ttl)
  end
end
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
return 1
";

/// `KEYS[1]` the value; the key. Says whether it was there.
const DELETE: &str = r"
untag(KEYS[1], ARGV[2])
return redis.call('UNLINK', KEYS[1])
";

/// `KEYS[1]` the tag; the tag's name, the values' prefix. Says how many values it took away.
const DROP_TAG: &str = r"
local mark = redis.call('HGET', KEYS[1], '')
local removed = 0
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if name ~= '' then
    local value = ARGV[3] .. string.sub(name, 2)
    if redis.call('HGET', value, 't' .. ARGV[2]) == mark then
      untag(value, string.sub(name, 2))
      removed = removed + redis.call('UNLINK', value)
    end
  end
end
redis.call('UNLINK', KEYS[1])
return removed
";

/// The scripts, hashed once.
pub(super) struct Scripts {
    pub(super) get: Script,
    pub(super) set: Script,
    pub(super) delete: Script,
    pub(super) drop_tag: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let with_untag = |body: &str| Script::new(&format!("{UNTAG}{body}"));
        Self { get: Script::new(GET), set: with_untag(SET), delete: with_untag(DELETE), drop_tag: with_untag(DROP_TAG) }
    }
}
