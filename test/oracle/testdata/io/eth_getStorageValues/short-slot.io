>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageValues","params":[{"0x9140629D4BbdF8D0e98d586AfE70E7017fB6950D":["0x0"]},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: json: cannot unmarshal hex string of odd length into Go value of type common.Hash"}}
