>> {"id":1,"jsonrpc":"2.0","method":"eth_getBlockTransactionCountByHash","params":["0xc4955da911a795d6c613812fff8a91d0c7ea5f4ffd2492bf55e0d6b7fe4cb0e3"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x6"}
