/** The websocket of the feed of a node, given by the URL of its RPC. Throws a TypeError. */
export function feedURL(text: string): string {
  const url = new URL(text)
  const protocol = { 'http:': 'ws:', 'ws:': 'ws:', 'https:': 'wss:', 'wss:': 'wss:' }[url.protocol]
  if (protocol === undefined) throw new TypeError(`${text} is not a URL of http, https, ws or wss`)
  url.protocol = protocol
  if (url.pathname === '/') url.pathname = '/feed'
  return url.href
}
