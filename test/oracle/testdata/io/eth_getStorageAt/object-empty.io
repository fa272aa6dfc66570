>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageAt","params":["0x9140629d4bbdf8d0e98d586afe70e7017fb6950d","0x0",{}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 2: must specify either BlockHash or BlockNumber"}}
