>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockReceipts","params":[{"blockHash":"0x80da9347bead73384becdfb16391e8aa148707f2e41514a350f199756c551342","blockNumber":"0x9"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: cannot specify both BlockHash and BlockNumber, choose one or the other"}}
