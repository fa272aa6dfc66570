>> {"jsonrpc":"2.0","id":1,"method":"txpool_contentFrom","params":["0x9fbc26dded942b13318eda89513b51314a446b16"]}
<< {"jsonrpc":"2.0","id":1,"result":{"pending":{},"queued":{}}}
